"""Who visits which page, what is hot now, and what do sessions look like? Answered with sketches, beside the exact answers."""
