"""The dashboard's server: the web page, and its way to the broker.

The page itself is an ordinary subscriber in the browser; its sources are in `client/dashboard/`.
"""
