"""An address of its own for each simulated reader, as real readers have: nginx limits what one address may ask."""

from urllib.parse import urlsplit

HOSTS_A_NET = 254
NETS = 255 * 256  # 127.1.0.0/24 to 127.255.255.0/24


def address_of(number: int) -> str:
    """The source address of reader `number`, from 127.1.0.1 on; after 16,581,120 readers they are used again."""
    net, host = divmod(number, HOSTS_A_NET)
    high, low = divmod(net % NETS, 256)
    return f"127.{1 + high}.{low}.{1 + host}"


def is_loopback(url: str) -> bool:
    """Whether 127.0.0.0/8 can ask there."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")
