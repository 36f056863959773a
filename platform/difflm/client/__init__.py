"""The client of a server of `difflm serve`: in one call at a time, or with async and await.

    with Client("http://localhost:8000", key="difflm_...") as client:
        rows = client.sample(100, seed=1, where='age >= 40')
        for row in client.stream(10_000):
            ...

A refusal that passes by itself (429, 503, a connection that cannot be made) is waited out as long as the server says
and asked again, `attempts` times in all. The errors are these::

    DiffLMError
    +-- RequestError        the server says what is wrong with the request: status, code, field
    +-- BusyError           the server had too much to do, or was not ready, after all attempts
    +-- ServerError         no answer, or one that is no success for another reason
"""

from difflm.client.answers import BusyError, RequestError, Row, ServerError
from difflm.client.asynchronous import AsyncClient
from difflm.client.calls import ImputeOptions, SampleOptions
from difflm.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "BusyError",
    "Client",
    "ImputeOptions",
    "RequestError",
    "Row",
    "SampleOptions",
    "ServerError",
]
