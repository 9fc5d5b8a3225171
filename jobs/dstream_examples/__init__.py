"""The classical programs of discretized streams, each a small job.

Run one with ``millrace submit jobs/dstream_examples/network_wordcount.py localhost 9999``, by spark-submit, or with
``python -m jobs.dstream_examples.network_wordcount localhost 9999``; ``nc -lk 9999`` serves what is typed.
"""
