"""Ports that were chosen stay free until their server listens."""

from __future__ import annotations

import socket

from ringmaster.net.free_ports import free_ports


def test_a_chosen_port_is_for_servers_only_and_given_to_nobody_else() -> None:
    [port] = free_ports(1)
    with socket.socket() as another:
        try:
            another.bind(("127.0.0.1", port))
        except OSError:
            taken = False
        else:
            taken = True
    assert not taken
    with socket.create_server(("127.0.0.1", port)) as server:  # sets SO_REUSEADDR, as servers do
        assert server.getsockname()[1] == port


def test_ports_chosen_together_follow_one_another() -> None:
    first, second, third = free_ports(3)
    assert (second, third) == (first + 1, first + 2)
