"""The HTTP client adapters are handed."""

import asyncio

import httpx
import respx

from crmkit.adapters.http import client


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    status = b"302 Found\r\nLocation: http://127.0.0.1:1/elsewhere" if b"/moved" in head else b"200 OK"
    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def test_it_speaks_http_over_real_sockets_many_at_once() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, client(concurrency=20) as http:
        answers = await asyncio.gather(*(http.post(url, json={"n": n}) for n in range(100)))
    assert [answer.text for answer in answers] == ["ok"] * 100


async def test_it_follows_no_redirect() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/moved"
    async with server, client() as http:
        assert (await http.get(url)).status_code == 302


async def test_a_refused_connection_is_an_error_of_the_transport() -> None:
    async with client() as http:
        try:
            await http.get("http://127.0.0.1:9/")
        except httpx.TransportError:
            return
    raise AssertionError("a closed port answered")


async def test_fixtures_are_served_through_the_same_client() -> None:
    router = respx.Router()
    router.get("https://vendor.example/orders").respond(json={"orders": []})
    async with client(transport=httpx.MockTransport(router.async_handler)) as http:
        assert (await http.get("https://vendor.example/orders")).json() == {"orders": []}
