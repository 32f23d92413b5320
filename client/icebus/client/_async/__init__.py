"""The client for asyncio: the sync client's objects, whose calls are made on threads.

Nothing of the client is written twice: a method is named here, and takes its signature, its
docstring and what it does from the sync one. :mod:`.methods` has the ways to name one.
"""
