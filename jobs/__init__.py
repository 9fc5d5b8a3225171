"""Jobs that spark-submit runs, one folder each: ``main.py`` wires, ``pipeline.py`` is pure."""
