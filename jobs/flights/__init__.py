"""A year of flights from New York: departures and delays by hour, route and day, from a topic to tables.

`events` makes the events, `publish` sends them, `main` is the job (`pipeline` and `days` its logic), `check` proves the
tables with pandas, `report` shows them, `demo` does all of it.
"""
