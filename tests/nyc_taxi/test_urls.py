"""Addresses without logins, and the logins that were in them."""

import pytest

from include.nyc_taxi.urls import split_login, without_login

SITE = "https://tlc.test:8443/mirror"


@pytest.mark.parametrize(
    ("login", "user", "password"),
    [
        ("me:secret@", "me", "secret"),
        ("me@", "me", ""),
        (":secret@", "", "secret"),
        ("@", "", ""),
        ("me:p%40ss%2Fw%20rd@", "me", "p@ss/w rd"),
        ("me%40tlc.test:secret@", "me@tlc.test", "secret"),
        ("me:p@ss@", "me", "p@ss"),
        ("me@tlc.test:secret@", "me@tlc.test", "secret"),
        ("me:a:b@", "me", "a:b"),
        ("me:pa/ss@", "me", "pa/ss"),
        ("me:pa?s#s@", "me", "pa?s#s"),
    ],
)
@pytest.mark.parametrize("scheme", ["https://", "HTTP://", "//", ""])
def test_a_login_is_taken_out_and_decoded(scheme, login, user, password):
    assert split_login(f"{scheme}{login}tlc.test:8443/mirror") == (f"{scheme}tlc.test:8443/mirror", (user, password))


@pytest.mark.parametrize(
    "address",
    [
        SITE,
        "",
        "tlc.test",
        "https://tlc.test/a@b.parquet",
        "https://tlc.test:80/a@b.parquet",
        "https://tlc.test?user=me@b",
        "http://[::1]:8000/a@b",
        "/data/me@home/green.parquet",
        "http://127.0.0.1:9",
    ],
)
def test_an_address_without_a_login_stays_as_it_is(address):
    assert without_login(address) == address
    assert split_login(address)[1] is None
