"""Each reader has an address of its own, at which this machine can be asked from."""

import ipaddress
import socket

import pytest

from loadtest.load.addresses import HOSTS_A_NET, NETS, address_of, is_loopback

ALL = HOSTS_A_NET * NETS


def test_addresses_differ() -> None:
    assert len({address_of(number) for number in range(100_000)}) == 100_000


@pytest.mark.parametrize("number", [0, 253, 254, 65023, 65024, ALL - 1])
def test_addresses_are_hosts_of_the_loopback_net(number: int) -> None:
    address = ipaddress.ip_address(address_of(number))
    assert address in ipaddress.ip_network("127.0.0.0/8")
    assert address not in ipaddress.ip_network("127.0.0.0/16")  # where servers listen
    assert address.packed[3] not in (0, 255)


def test_when_all_are_taken_they_begin_anew() -> None:
    assert address_of(ALL) == address_of(0) == "127.1.0.1"


def test_a_server_sees_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = (address_of(70_000), 0)
        with socket.create_connection(server.getsockname(), timeout=5, source_address=source):
            connection, (seen, _) = server.accept()
            connection.close()
    assert seen == address_of(70_000)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://192.0.2.1:8080", False),
        ("http://pokegen.example", False),
        ("", False),
    ],
)
def test_only_loopback_is_asked_from_there(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback
