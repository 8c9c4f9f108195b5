# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests taken apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuidx.simulation.asapo.protocol import OPERATIONS, Request, parse_request

BASE = "/v0.7/beamtime/bt/src"
ACK = {"Op": "ackmessage"}

PARTS = ["v0.7", "beamtime", "0", "meta", "next", "size", "transfer", "folder", "x", "7", "", "%ff"]
BODIES = [b"", b"[1]", b"{}", b'{"Op":"ackmessage"}', b'{"Op":[]}', b"1e999", b"null"]


@pytest.mark.parametrize(
    ("target", "body", "request_"),
    [
        ("a%2Fb/g/next", b"", Request("next", "bt", "src", "a/b", "g")),
        (
            "a%20b/0/7?token=%C3%A4&x=",
            b"",
            Request("get", "bt", "src", "a b", "", 7, {"token": "ä", "x": ""}),
        ),
        ("s/g/7", json.dumps(ACK).encode(), Request("acknowledge", "bt", "src", "s", "g", 7, {}, ACK)),
        ("0/streams", b"", Request("streams", "bt", "src")),
        ("streams/size", b"", Request("size", "bt", "src", "streams")),
        ("default/0/meta/0", b"", Request("meta", "bt", "src")),
        ("s/0/meta/1", b"", Request("meta", "bt", "src", "s")),
        ("s/g/seven", b"", Request("")),
        ("s/g/7", b"no json", Request("")),
    ],
)
def test_paths(target, body, request_):
    assert parse_request(f"{BASE}/{target}", body) == request_


@given(st.lists(st.sampled_from(PARTS)), st.booleans(), st.sampled_from(BODIES) | st.binary())
def test_every_request_is_an_operation_or_none(parts, is_in_source, body):
    target = "/".join([BASE if is_in_source else "", *parts])
    assert parse_request(target, body).operation in ("", *OPERATIONS)
