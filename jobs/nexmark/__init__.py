"""Nexmark, an online auction: people open auctions, people bid. The queries that join, over events that are made up as they are needed."""
