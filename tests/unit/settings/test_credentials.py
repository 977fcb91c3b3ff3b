"""Keys that verify tokens, and ingest keys of the backends."""

# ruff: noqa: E501  # a table of sentences is read line by line

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.domain.ingest_keys import ALL_SCOPES, IngestKey, Scope
from gateway.domain.rate_limit import Rate
from gateway.settings import Settings, SettingsError, load_settings

JWT = {"GATEWAY_JWT_SECRET": "j" * 32}
INGEST = {"GATEWAY_INGEST_KEYS": "billing:" + "b" * 32}
SECRET = "s3cret-" * 6
OTHER = "0ther-" * 6


def problems(environ: dict[str, str], *, dev: bool = False) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(environ, dev=dev)
    return raised.value.problems


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT_RSA = pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505  # rejected
EC256 = ec.generate_private_key(ec.SECP256R1())
PUBLIC_KEYS = {
    "RS256": pem(RSA),
    "ES256": pem(EC256),
    "ES384": pem(ec.generate_private_key(ec.SECP384R1())),
    "ES512": pem(ec.generate_private_key(ec.SECP521R1())),
    "EdDSA": pem(ed25519.Ed25519PrivateKey.generate()),
}


# keys of tokens


def test_settings_without_keys_are_rejected_with_every_missing_key() -> None:
    assert [problem.partition(":")[0] for problem in problems({})] == [
        "GATEWAY_JWT_SECRET",
        "GATEWAY_INGEST_KEYS",
    ]


def test_commands_that_call_a_gateway_need_no_keys() -> None:
    settings = load_settings({}, require_keys=False)

    assert (settings.jwt_secret, settings.ingest_keys, settings.jwt_algorithms) == ((), (), ())


@pytest.mark.parametrize("algorithm", PUBLIC_KEYS)
def test_default_algorithm_follows_from_the_public_key(algorithm: str) -> None:
    settings = load_settings(INGEST | {"GATEWAY_JWT_PUBLIC_KEY": PUBLIC_KEYS[algorithm]})

    assert settings.jwt_algorithms == (algorithm,)


def test_default_algorithms_follow_from_every_key() -> None:
    assert load_settings(INGEST | JWT).jwt_algorithms == ("HS256",)
    assert load_settings(INGEST | {"GATEWAY_JWT_JWKS_URL": "https://id.example/jwks"}).jwt_algorithms == ("RS256", "ES256", "EdDSA")  # fmt: skip
    assert load_settings(INGEST | JWT | {"GATEWAY_JWT_PUBLIC_KEY": PUBLIC_KEYS["ES256"]}).jwt_algorithms == ("HS256", "ES256")  # fmt: skip


def test_public_key_in_a_single_line_is_accepted() -> None:
    settings = load_settings(INGEST | {"GATEWAY_JWT_PUBLIC_KEY": PUBLIC_KEYS["ES256"].replace("\n", "\\n")})

    assert settings.jwt_public_key == PUBLIC_KEYS["ES256"]


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ({"JWT_SECRET": "short"}, ["GATEWAY_JWT_SECRET: has fewer than 32 bytes; `openssl rand -hex 32` makes a good one"]),
        ({"JWT_SECRET": PUBLIC_KEYS["ES256"]}, ["GATEWAY_JWT_SECRET: is a public key, a certificate or a JSON Web Key, and so not a secret"]),
        ({"JWT_SECRET": "j" * 32, "JWT_ALGORITHMS": "none"}, ["GATEWAY_JWT_ALGORITHMS: 'none' is not an algorithm that can be allowed; those are HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, ES256K, EdDSA"]),
        ({"JWT_SECRET": "j" * 32, "JWT_ALGORITHMS": "HS256,RS256,EdDSA"}, ["GATEWAY_JWT_ALGORITHMS: RS256 needs GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWT_JWKS_URL; none is set", "GATEWAY_JWT_ALGORITHMS: EdDSA needs GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWT_JWKS_URL; none is set"]),
        ({"JWT_PUBLIC_KEY": PUBLIC_KEYS["RS256"], "JWT_ALGORITHMS": "HS256"}, ["GATEWAY_JWT_ALGORITHMS: HS256 needs GATEWAY_JWT_SECRET, which is not set"]),
        ({"JWT_PUBLIC_KEY": PUBLIC_KEYS["ES256"], "JWT_ALGORITHMS": "ES256,RS256"}, ["GATEWAY_JWT_ALGORITHMS: RS256 cannot be verified with the type of key in GATEWAY_JWT_PUBLIC_KEY"]),
        ({"JWT_PUBLIC_KEY": PUBLIC_KEYS["RS256"], "JWT_JWKS_URL": "https://id.example/jwks"}, ["GATEWAY_JWT_JWKS_URL: is set together with GATEWAY_JWT_PUBLIC_KEY: remove one of the two"]),
        ({"JWT_PUBLIC_KEY": "nonsense"}, ["GATEWAY_JWT_PUBLIC_KEY: is not a public key in PEM (-----BEGIN PUBLIC KEY-----) for RSA, ES256/384/512/256K or EdDSA"]),
        ({"JWT_PUBLIC_KEY": SHORT_RSA}, ["GATEWAY_JWT_PUBLIC_KEY: is an RSA key of fewer than 2048 bits"]),
        ({"JWT_PUBLIC_KEY": EC256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()}, ["GATEWAY_JWT_PUBLIC_KEY: is a private key, which only the issuer of the tokens may have: use its public key"]),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit_the_algorithms_are_rejected(
    given: dict[str, str], sentences: list[str]
) -> None:
    assert problems(INGEST | {f"GATEWAY_{name}": value for name, value in given.items()}) == sentences


EDGES = [
    ("{}\n", "ends with a line break: remove it"),
    ("{}\r\n", "ends with a line break: remove it"),
    ("{}\r", "ends with a carriage return: remove it"),
    ("{} ", "ends with a space: remove it"),
    (" {}", "begins with a space: remove it"),
    ("{}\t", "ends with a tab: remove it"),
    ("{}\u00a0", "ends with a no-break space (U+00A0): remove it"),
    ("{}\u200b", "ends with the invisible character U+200B: remove it"),
    ("{}\ufeff", "ends with a byte order mark (U+FEFF): remove it"),
    ('"{}"', "is in quotes, which count as a part of it: remove them"),
    ("'{}'", "is in quotes, which count as a part of it: remove them"),
    ("{}\x00x", "contains the invisible character U+0000"),
    ("{}\udcff", "is not UTF-8"),
]
"""A secret within what editors, shells and copies add to it; and the sentence about that."""


@pytest.mark.parametrize(("form", "sentence"), EDGES)
def test_jwt_secret_with_something_around_it_is_rejected(tmp_path: Path, form: str, sentence: str) -> None:
    text = form.format(SECRET)

    assert problems(INGEST | {"GATEWAY_JWT_SECRET": text}) == [f"GATEWAY_JWT_SECRET: {sentence}"]
    if text.isascii():
        environ = INGEST | {"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml")}
        (tmp_path / "gateway.yaml").write_text(f"jwt_secret: {json.dumps(text)}\n", encoding="utf-8")
        expected = f"GATEWAY_JWT_SECRET: {sentence} (in {tmp_path / 'gateway.yaml'})"
        assert problems(environ) == [expected]
        assert SECRET not in expected


@pytest.mark.parametrize("text", [" " * 40, "\n" * 40, "\u00a0" * 40])
def test_jwt_secret_of_white_space_alone_is_rejected(text: str) -> None:
    assert problems(INGEST | {"GATEWAY_JWT_SECRET": text}) == [
        "GATEWAY_JWT_SECRET: consists of white space alone"
    ]


@pytest.mark.parametrize("text", ["a b" * 11, "a\tb" * 11, "ü" * 16, '"' + "x" * 32, "é\u200db" * 8])
def test_jwt_secret_may_contain_white_space_and_any_letters(text: str) -> None:
    assert load_settings(INGEST | {"GATEWAY_JWT_SECRET": text}).jwt_secret == (text,)


@pytest.mark.parametrize("text", [f"{'n' * 32}\n{'o' * 32}", f"{'n' * 32}\r\n{'o' * 32}"])
def test_jwt_secrets_are_one_a_line_or_a_list_in_yaml(tmp_path: Path, text: str) -> None:
    secrets = ("n" * 32, "o" * 32)
    file, config = tmp_path / "jwt", tmp_path / "gateway.yaml"
    file.write_bytes(text.encode() + b"\n")
    config.write_text(json.dumps({"jwt_secret": list(secrets)}))

    for environ in (
        {"GATEWAY_JWT_SECRET": text},
        {"GATEWAY_JWT_SECRET_FILE": str(file)},
        {"GATEWAY_CONFIG": str(config)},
    ):
        settings = load_settings(INGEST | environ)
        assert (settings.jwt_secret, settings.jwt_algorithms) == (secrets, ("HS256",))
        assert "n" * 32 not in repr(settings)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (f"{'n' * 32}\nshort", ["secret 2 has fewer than 32 bytes; `openssl rand -hex 32` makes a good one"]),
        (f"{'n' * 32} \n{'o' * 32}", ["secret 1 ends with a space: remove it"]),
        (f"{'n' * 32}\n\n{'o' * 32}", ["secret 2 is empty"]),
        (f"{'n' * 32}\n{'n' * 32}", ["has the same secret twice"]),
        ("\n".join(str(each) * 32 for each in range(5)), ["has 5 secrets: it takes 1 to 4"]),
    ],
)
def test_wrong_jwt_secret_of_several_is_named_by_its_number(text: str, sentences: list[str]) -> None:
    assert problems(INGEST | {"GATEWAY_JWT_SECRET": text}) == [
        f"GATEWAY_JWT_SECRET: {each}" for each in sentences
    ]


def test_public_key_may_end_with_line_breaks_and_does_not_begin_with_a_byte_order_mark() -> None:
    key = PUBLIC_KEYS["ES256"]

    assert load_settings(INGEST | {"GATEWAY_JWT_PUBLIC_KEY": key + "\r\n\n"}).jwt_algorithms == ("ES256",)
    assert problems(INGEST | {"GATEWAY_JWT_PUBLIC_KEY": "\ufeff" + key}) == [
        "GATEWAY_JWT_PUBLIC_KEY: begins with a byte order mark (U+FEFF), which editors do not show: remove it"
    ]


# keys of backends


@pytest.mark.parametrize(("form", "sentence"), EDGES[:-1])
def test_ingest_secret_with_something_around_it_is_rejected(tmp_path: Path, form: str, sentence: str) -> None:
    text = form.format(SECRET)
    expected = f"GATEWAY_INGEST_KEYS: key 1: its secret {sentence}"

    assert problems(JWT | {"GATEWAY_INGEST_KEYS": f"a:{text},b:{OTHER}"})[0] == expected
    file = tmp_path / "secrets"
    file.write_text(f"{text}\n", encoding="utf-8", newline="")
    environ = from_yaml(tmp_path, f"ingest_keys: [{{id: a, secret_file: {file}}}]")
    if not text.endswith(("\n", "\r")):  # in a file each line is a secret
        assert problems(environ) == [f"{expected} (in {environ['GATEWAY_CONFIG']})"]


def test_ingest_keys_may_have_blanks_before_each_key() -> None:
    settings = load_settings(JWT | {"GATEWAY_INGEST_KEYS": f" a:{SECRET},\tb:{OTHER}"})

    assert settings.ingest_keys == (IngestKey("a", (SECRET,)), IngestKey("b", (OTHER,)))


def test_ingest_key_is_split_at_its_first_colon() -> None:
    settings = load_settings(JWT | {"GATEWAY_INGEST_KEYS": f"a:{SECRET}:x, b.2:{OTHER}"})

    assert settings.ingest_keys == (IngestKey("a", (SECRET + ":x",)), IngestKey("b.2", (OTHER,)))


def test_length_of_a_secret_is_counted_in_bytes() -> None:
    assert load_settings(JWT | {"GATEWAY_INGEST_KEYS": "a:" + "é" * 16}).ingest_keys[0].secrets == ("é" * 16,)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("a:short", ["key 1: its secret has fewer than 32 bytes"]),
        (SECRET, ["key 1: has no colon between its id and its secret (a secret contains no comma)"]),
        (f"a b:{SECRET}", ["key 1: its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -"]),
        (f"a:{SECRET},", ["key 2: has no colon between its id and its secret (a secret contains no comma)"]),
        (f"a:{SECRET}\nb:{OTHER}", ["key 1: its secret contains a tab or a line break"]),
        (f"a:{SECRET},a:{OTHER}", ["two keys have the id 'a'"]),
        (f"a:{SECRET},b:{SECRET}", ["the keys 'a' and 'b' have the same secret"]),
        (f"a:x,b,c:{SECRET},d:{SECRET}", [
            "key 1: its secret has fewer than 32 bytes",
            "key 2: has no colon between its id and its secret (a secret contains no comma)",
            "the keys 'c' and 'd' have the same secret",
        ]),
    ],
)  # fmt: skip
def test_every_invalid_ingest_key_is_reported_without_its_secret(text: str, sentences: list[str]) -> None:
    found = problems(JWT | {"GATEWAY_INGEST_KEYS": text})

    assert found == [f"GATEWAY_INGEST_KEYS: {sentence}" for sentence in sentences]
    assert SECRET not in str(found)


def from_yaml(folder: Path, text: str) -> dict[str, str]:
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    return JWT | {"GATEWAY_CONFIG": str(file)}


def test_ingest_keys_in_yaml_have_scopes_rates_and_second_secrets(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("f" * 32 + "\n", encoding="utf-8")
    settings: Settings = load_settings(
        from_yaml(
            tmp_path,
            f"""
            ingest_keys:
              - id: billing
                secrets: [{SECRET}, {OTHER}]
                scopes: ["emit:user", "emit:room:org:*", presence]
                rate: 2.5
              - id: reports
                secret_file: {tmp_path / "secret"}
                rate: {{per_second: 10, burst: 50}}
              - {{id: plain, secret: {"p" * 32}}}
            """,
        )
    )

    assert settings.ingest_keys == (
        IngestKey(
            "billing",
            (SECRET, OTHER),
            (Scope("emit:user"), Scope("emit:room", "org:*"), Scope("presence")),
            Rate(2.5, 3),
        ),
        IngestKey("reports", ("f" * 32,), ALL_SCOPES, Rate(10.0, 50)),
        IngestKey("plain", ("p" * 32,)),
    )


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (f"{{id: a, secret: {SECRET}, scope: x}}", "key 1: unknown field 'scope'; known are id, secret, secrets, secret_file, scopes, rate"),
        ("{id: a}", "key 1: it needs exactly one of secret, secrets and secret_file"),
        (f"{{id: a, secret: {SECRET}, secrets: [x]}}", "key 1: it needs exactly one of secret, secrets and secret_file"),
        (f"{{secret: {SECRET}}}", "key 1: its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -"),
        (f"{{id: a, secrets: [{SECRET}, {SECRET}]}}", "key 1: it has the same secret twice"),
        ("{id: a, secrets: []}", "key 1: its secrets are not a list of strings"),
        ("{id: a, secret: 12345678901234567890123456789012}", "key 1: its secret is not text; in YAML, put it in quotes"),
        ("{id: a, secret_file: /nowhere}", "key 1: cannot read /nowhere: No such file or directory"),
        (f"{{id: a, secret: {SECRET}, scopes: [emit]}}", "key 1: 'emit' is no scope: use emit:user[:<glob>], emit:room[:<glob>], broadcast, presence, join[:<glob>], history[:<glob>], admin"),
        (f"{{id: a, secret: {SECRET}, scopes: ['emit:room:e\u0301*']}}", "key 1: 'emit:room:e\u0301*' is not in Unicode form NFC, and so matches no name"),
        (f"{{id: a, secret: {SECRET}, scopes: []}}", "key 1: its scopes are not a list of strings; omit them to allow everything"),
        (f"{{id: a, secret: {SECRET}, rate: 0}}", "key 1: 0 is out of range: it must be more than 0 each second"),
        (f"{{id: a, secret: {SECRET}, rate: {{burst: 1}}}}", "key 1: its rate is neither a number nor a mapping of per_second and burst"),
        ("7", "key 1: is not a mapping with an id and a secret"),
    ],
)  # fmt: skip
def test_invalid_ingest_key_in_yaml_is_reported_with_its_reason(
    tmp_path: Path, item: str, sentence: str
) -> None:
    environ = from_yaml(tmp_path, f"ingest_keys:\n  - {item}\n")

    assert problems(environ) == [f"GATEWAY_INGEST_KEYS: {sentence} (in {environ['GATEWAY_CONFIG']})"]


def test_each_line_of_a_secret_file_is_a_secret_of_the_ingest_key(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text(f"{SECRET}\n{OTHER}\n")
    environ = from_yaml(tmp_path, f"ingest_keys: [{{id: shop, secret_file: {tmp_path / 'shop'}}}]")

    assert load_settings(environ).ingest_keys == (IngestKey("shop", (SECRET, OTHER)),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "its secret is empty"),
        (f"{SECRET}\n\n{OTHER}\n", "its secret is empty"),
        (f"{SECRET}\r\n{OTHER}\r\n", "its secret ends with a carriage return: remove it"),
        (f"{SECRET}\n{SECRET}\n", "it has the same secret twice"),
    ],
)
def test_secret_file_with_an_invalid_line_is_rejected_without_quoting_it(
    tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "shop").write_text(content, newline="")
    environ = from_yaml(tmp_path, f"ingest_keys: [{{id: shop, secret_file: {tmp_path / 'shop'}}}]")

    assert problems(environ) == [f"GATEWAY_INGEST_KEYS: key 1: {reason} (in {environ['GATEWAY_CONFIG']})"]


# development


def test_development_mode_generates_missing_secrets_for_each_run() -> None:
    first, second = load_settings({}, dev=True), load_settings({}, dev=True)

    assert first.host == "localhost"
    assert first.cors_origins == ("*",)
    assert first.jwt_algorithms == ("HS256",)
    assert [key.id for key in first.ingest_keys] == ["dev"]
    assert first.jwt_secret != second.jwt_secret
    assert first.ingest_keys[0].secrets != second.ingest_keys[0].secrets
    assert first.origins["jwt_secret"] == first.origins["ingest_keys"] == "generated for development"


def test_development_mode_keeps_settings_that_are_set() -> None:
    settings = load_settings(
        JWT | INGEST | {"GATEWAY_HOST": "0.0.0.0", "GATEWAY_CORS_ORIGINS": "https://a.example"}, dev=True
    )

    assert settings.host == "0.0.0.0"
    assert settings.cors_origins == ("https://a.example",)
    assert settings.jwt_secret == ("j" * 32,)
    assert [key.id for key in settings.ingest_keys] == ["billing"]


def test_development_mode_generates_no_secret_beside_a_public_key() -> None:
    settings = load_settings({"GATEWAY_JWT_PUBLIC_KEY": PUBLIC_KEYS["ES256"]}, dev=True)

    assert settings.jwt_secret == ()
    assert settings.jwt_algorithms == ("ES256",)


def test_development_mode_rejects_invalid_settings() -> None:
    assert problems({"GATEWAY_JWT_SECRET": "short"}, dev=True) == [
        "GATEWAY_JWT_SECRET: has fewer than 32 bytes; `openssl rand -hex 32` makes a good one"
    ]
