import pytest

TESTS = """
import asyncio, smtplib, socket
import aiohttp, httpx, pytest
from httpx_aiohttp import AiohttpTransport
from crmkit.testing.network import NetworkDenied

pytest_plugins = []

async def answer(reader, writer):
    await reader.readline()
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
    await writer.drain()
    writer.close()

def get_over_aiohttp(url):
    async def run():
        async with httpx.AsyncClient(transport=AiohttpTransport()) as client:
            return await client.get(url)
    return asyncio.run(run())

def denied_connect():
    socket.create_connection(("192.0.2.1", 80), timeout=1)

def denied_connect_ex():
    with socket.socket() as sock:
        sock.connect_ex(("198.51.100.7", 443))

def denied_ipv6():
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect(("2001:db8::1", 80))

def denied_datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("192.0.2.53", 53))

def denied_message():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendmsg([b"x"], [], 0, ("192.0.2.54", 53))

def denied_lookup():
    socket.getaddrinfo("shop.example", 443)

def denied_loop_connect():
    async def run():
        with socket.socket() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("192.0.2.2", 80))
    asyncio.run(run())

def denied_open_connection():
    asyncio.run(asyncio.open_connection("192.0.2.3", 80))

def denied_open_connection_by_name():
    asyncio.run(asyncio.open_connection("streams.example", 80))

def denied_httpx():
    httpx.get("http://httpx.example/", trust_env=False)

def denied_httpx_over_aiohttp():
    get_over_aiohttp("http://192.0.2.4/")

def denied_httpx_over_aiohttp_by_name():
    get_over_aiohttp("http://aiohttp.example/")

def denied_smtp():
    smtplib.SMTP("mail.example", 25, timeout=1)

DENIED = [value for name, value in sorted(globals().items()) if name.startswith("denied_")]

@pytest.mark.parametrize("attempt", DENIED)
def test_raises(attempt):
    attempt()

@pytest.mark.parametrize("attempt", DENIED)
def test_swallows(attempt):
    try:
        attempt()
    except Exception:
        pass

def test_swallows_and_skips():
    with pytest.raises(NetworkDenied):
        denied_connect()
    pytest.skip("no network here")

@pytest.fixture
def leaves_in_teardown():
    yield
    with pytest.raises(NetworkDenied):
        denied_connect()

def test_is_fine_but_its_fixture_is_not(leaves_in_teardown):
    pass

def allowed_loopback():
    async def run():
        for host in ("127.0.0.1", "localhost"):
            server = await asyncio.start_server(answer, host, 0)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(host, port)
            writer.close()
            server.close()
    asyncio.run(run())

def allowed_aiohttp_on_loopback():
    async def run():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient(transport=AiohttpTransport()) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "ok"
        server.close()
    asyncio.run(run())

def allowed_unix_socket():
    left, right = socket.socketpair()
    left.close()
    right.close()

def allowed_own_name():
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except socket.gaierror:
        pass

def allowed_datagram_on_loopback():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"x", sock.getsockname())
        sock.connect(sock.getsockname())
        sock.sendmsg([b"x"])

@pytest.mark.parametrize("attempt", [value for name, value in sorted(globals().items()) if name.startswith("allowed_")])
def test_stays(attempt):
    attempt()
"""

# What these inner runs do not need costs more than they do.
QUICKLY = ["-q", "-p", "no:hypothesispytest", "-p", "no:respx", "-p", "no:cacheprovider"]
DENIED = TESTS.count("def denied_")
ALLOWED = TESTS.count("def allowed_")


def test_the_guard_fails_every_test_that_would_leave_the_machine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess(*QUICKLY)
    # The test with the leaving fixture passes before its teardown is an error.
    result.assert_outcomes(failed=2 * DENIED + 1, passed=ALLOWED + 1, errors=1)


def test_the_guard_names_the_address(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket

        def test_connect():
            socket.create_connection(("192.0.2.1", 8025))

        def test_look_up():
            try:
                socket.getaddrinfo("shop.example", 443)
            except Exception:
                pass
        """
    )
    result = pytester.runpytest_subprocess(*QUICKLY)
    result.stdout.fnmatch_lines(
        ["*tried to connect to 192.0.2.1 port 8025*", "*tried to look up the host 'shop.example'*"]
    )


def test_a_project_can_turn_the_guard_off(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ncrmkit_network = allow")
    pytester.makepyfile("import socket\ndef test_plain():\n    assert socket.socket.connect.__name__ == 'connect'")
    pytester.runpytest_subprocess(*QUICKLY).assert_outcomes(passed=1)
