"""Lookups in remote services: HTTP from the workers, JDBC from the driver."""

from spark_ext.joins.remote.http import HttpLookup
from spark_ext.joins.remote.jdbc import JdbcLookup
from spark_ext.joins.remote.layout import LOOKUP_ERROR, OnFailure
from spark_ext.joins.remote.limits import Cache, Limits
from spark_ext.joins.remote.plan import lookup_remote

__all__ = ["LOOKUP_ERROR", "Cache", "HttpLookup", "JdbcLookup", "Limits", "OnFailure", "lookup_remote"]
