"""The network of a private Docker Engine: a bridge of its own, and nothing of it left behind.

Every network the Engine makes lies in one address pool. So what belongs to it can be told from what
belongs to another Docker on the same machine by address alone, even after a crash.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from machine import ToolError, find_program, run

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# How the machine was before the first private Engine came up; gone with the last one, and at a reboot.
BEFORE = Path("/run/ds01-engines.json")
TABLES = ("filter", "nat")


@dataclass(frozen=True)
class Bridge:
    """The Engine's default bridge: its link's name, its address, and the pool of all its networks."""

    name: str
    address: IPv4Interface

    @property
    def pool(self) -> IPv4Network:
        return IPv4Interface(f"{self.address.ip}/16").network


def choose_bridge(directory: Path, name: str | None = None, subnet: str | None = None) -> Bridge:
    """Choose a bridge for the Engine in `directory`: always the same one while its addresses are free.

    `name` (at most 15 characters) and `subnet` (`A.B.C.1/24`) override the choice.
    """
    digest = hashlib.sha256(str(directory).encode()).hexdigest()
    link = name or f"ds01-{digest[:6]}"
    if len(link) > 15:
        raise ToolError(f"A link's name has at most 15 characters: choose a shorter one than {link}.")
    if subnet is not None:
        try:
            return Bridge(link, IPv4Interface(subnet))
        except ValueError as exc:
            raise ToolError(f"--subnet {subnet} is not an address like 10.77.0.1/24.") from exc
    first = int(digest[:8], 16)
    used = list(_list_used_networks(ignore=link))
    tens = [IPv4Network(f"10.{128 + (first + step) % 100}.0.0/16") for step in range(100)]
    for pool in [*tens, *(IPv4Network(f"172.{second}.0.0/16") for second in range(31, 19, -1))]:
        if not any(pool.overlaps(network) for network in used):
            return Bridge(link, IPv4Interface(f"{pool.network_address + 1}/24"))
    raise ToolError("No private network is free on this machine. Name one with --subnet A.B.C.1/24.")


def add_bridge(bridge: Bridge) -> None:
    """Create the bridge and bring it up; an existing one of that name is taken as it is."""
    ip = find_program("ip")
    if not _has_link(bridge.name):
        run([ip, "link", "add", bridge.name, "type", "bridge"])
    run([ip, "address", "replace", str(bridge.address), "dev", bridge.name])
    run([ip, "link", "set", bridge.name, "up"])


def remove_networks(bridge: Bridge) -> None:
    """Remove the Engine's bridges (its default one, and those of `docker network create`) and rules."""
    ip = find_program("ip")
    links = {bridge.name, *_list_bridges(bridge.pool)}
    for table in TABLES:
        for rule in _list_rules(table):
            if _belongs(rule, links, bridge.pool):
                _delete_rule(table, rule)
    for link in sorted(links):
        if _has_link(link):
            run([ip, "link", "delete", link])


def prepare_machine() -> None:
    """Let the machine forward IPv4, and write down how it was, unless another private Engine has.

    Done before dockerd starts: where dockerd itself has to, it also makes DROP the machine's policy.
    """
    if not BEFORE.exists():
        state = {"forwarding": IP_FORWARD.read_text().strip(), "had_docker_chains": _has_docker_chains()}
        BEFORE.write_text(json.dumps(state))
    IP_FORWARD.write_text("1")


def leave_machine(*, alone: bool) -> None:
    """Make the machine again what it was: for when no private Engine is left.

    Without `alone`, some other Docker runs, and needs what there is.
    """
    if not BEFORE.exists():
        return
    state = json.loads(BEFORE.read_text())
    if alone:
        if not state["had_docker_chains"]:
            _remove_docker_chains()
        IP_FORWARD.write_text(state["forwarding"])
    BEFORE.unlink()


def _has_docker_chains() -> bool:
    return any(chain.startswith("DOCKER") for table in TABLES for chain in _list_chains(table))


def _remove_docker_chains() -> None:
    for table in TABLES:
        chains = [chain for chain in _list_chains(table) if chain.startswith("DOCKER")]
        for rule in _list_rules(table):
            if not set(rule).isdisjoint(chains):
                _delete_rule(table, rule)
        for chain in chains:
            run([find_program("iptables"), "-w", "-t", table, "-X", chain])


def read_docker_rules(*, but: Bridge | None = None) -> dict[str, list[list[str]]]:
    """Return, by table, the rules in the chains that every Docker shares, but for one Engine's own."""
    links = {but.name, *_list_bridges(but.pool)} if but is not None else set()
    return {
        table: [
            rule
            for rule in _list_rules(table)
            if rule[0].startswith("DOCKER") and (but is None or not _belongs(rule, links, but.pool))
        ]
        for table in TABLES
    }


def restore_docker_rules(before: dict[str, list[list[str]]]) -> None:
    """Put back the rules that a starting dockerd has flushed, in their order.

    It empties the shared chains and so cuts the published ports of every other Docker on the machine.
    """
    for table, rules in before.items():
        present = _list_rules(table)
        for rule in reversed([rule for rule in rules if rule not in present]):
            run([find_program("iptables"), "-w", "-t", table, "-I", *rule])


def _list_used_networks(*, ignore: str) -> Iterator[IPv4Network]:
    for route in json.loads(run([find_program("ip"), "-j", "-4", "route", "show", "table", "all"]) or "[]"):
        destination = route.get("dst", "default")
        if destination != "default" and route.get("dev") != ignore:
            yield IPv4Network(destination, strict=False)


def _has_link(name: str) -> bool:
    return any(found == name for _, found in socket.if_nameindex())


def _list_bridges(pool: IPv4Network) -> Iterator[str]:
    for link in json.loads(
        run([find_program("ip"), "-j", "-4", "address", "show", "type", "bridge"]) or "[]"
    ):
        addresses = [entry["local"] for entry in link.get("addr_info", [])]
        if any(IPv4Interface(address).ip in pool for address in addresses):
            yield link["ifname"]


def _list_rules(table: str) -> list[list[str]]:
    listing = run([find_program("iptables"), "-w", "-t", table, "-S"])
    return [shlex.split(line)[1:] for line in listing.splitlines() if line.startswith("-A ")]


def _list_chains(table: str) -> list[str]:
    listing = run([find_program("iptables"), "-w", "-t", table, "-S"])
    return [line.split()[1] for line in listing.splitlines() if line.startswith("-N ")]


def _delete_rule(table: str, rule: list[str]) -> None:
    run([find_program("iptables"), "-w", "-t", table, "-D", *rule])


def _belongs(rule: list[str], links: set[str], pool: IPv4Network) -> bool:
    for option, value in itertools.pairwise(rule):
        if option in ("-i", "-o") and value in links:
            return True
        if option in ("-s", "-d", "--to-destination") and _lies_in(value.split(":")[0], pool):
            return True
    return False


def _lies_in(address: str, pool: IPv4Network) -> bool:
    try:
        return IPv4Network(address, strict=False).subnet_of(pool)
    except ValueError:
        return False
