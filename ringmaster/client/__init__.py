"""Python clients: `Client` blocks, `AsyncClient` is for asyncio. Both speak the HTTP API and nothing else."""

from ringmaster.access.sender import token_from_environment
from ringmaster.client.aio import AsyncClient
from ringmaster.client.blocking import Client
from ringmaster.client.reply import Reply

__all__ = ["AsyncClient", "Client", "Reply", "token_from_environment"]
