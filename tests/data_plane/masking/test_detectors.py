# ruff: noqa: RUF001 - the look-alike characters are what is tested
import time

import pytest

from data_plane.masking import Masker
from data_plane.masking.detectors import DETECTORS
from protos import vocabulary
from protos.vocabulary import MaskingRule, Transform

# What each detector finds, whole.
FOUND: dict[str, tuple[str, ...]] = {
    "email": (
        "alice@example.com",
        "Alice.Smith+news@mail.EXAMPLE.co.uk",
        "o'brien@example.ie",
        "jörg@bücher.example",
        "иван@пример.рф",
        "bob@[192.0.2.1]",
        "a" * 90 + "@example.com",
    ),
    "phone": (
        "+49 30 901820",
        "+1 415-555-2671",
        "+14155552671",
        "0044 20 7946 0018",
        "(415) 555-2671",
        "(415)555-2671",
        "415-555-2671",
        "415.555.2671",
    ),
    "card": (
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111  1111  1111  1111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "3056 930902 5904",
        "6011111111111117",
        "3530111333300000",
        "6304000000000000",
        "4000000000000000006",
    ),
    "iban": (
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "de89 3704 0044 0532 0130 00",
        "GB29 NWBK 6016 1331 9268 19",
        "NO93 8601 1117 947",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    ),
    "ip_address": (
        "192.0.2.17",
        "2001:db8::ff00:42:8329",
        "2001:db8:0:0:0:ff00:42:8329",
        "::1",
        "fe80::1",
        "::ffff:192.0.2.1",
        "0:0:0:0:0:ffff:192.0.2.1",
    ),
    "jwt": (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
        "eyJhbGciOiJSU0EifQ.a2V5a2V5a2V5.aXY.dGV4dA.dGFn",
    ),
    "aws_access_key": ("AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
    "private_key": (
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\\nMIIE\\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQ\n-----END PGP PRIVATE KEY BLOCK-----",
        "-----BEGIN EC PRIVATE KEY-----\ncut o",
    ),
    "secret_token": (
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "xoxb-123456789012-abcdef",
        "sk_live_" + "a1" * 12,
        "sk-proj-" + "a1" * 20,
        "AIza" + "a1" * 17 + "b",
        "ya29." + "a1" * 20,
        "npm_" + "a1" * 18,
        "pypi-" + "a1" * 20,
        "dckr_pat_" + "a1" * 12,
        "hvs." + "a1" * 12,
        "SG." + "a1" * 11 + "." + "b2" * 20,
        "shpat_" + "a1" * 16,
        "dop_v1_" + "a1" * 32,
        "abc8Q~" + "a1" * 17,
        "AccountKey=" + "a1" * 30 + "==",
        "Bearer " + "a1" * 10,
    ),
    "url_password": (),
    "us_ssn": ("536-90-4399", "536 90 4399"),
    "ca_sin": ("123-456-782", "123 456 782"),
    "gb_nhs": ("943-476-5870", "943 476 5870"),
    "au_tfn": ("123 456 782",),
    "de_idnr": ("36574261809", "36 574 261 809"),
    "fr_nir": ("295109912611193", "2 95 10 99 126 111 93", "253072B07300470"),
    "es_dni": ("54362315K", "54362315-K", "54.362.315-K", "x-2482300w", "X2482300W"),
    "it_codicefiscale": ("RCCMNL83S18D969H", "rccmnl83s18d969h"),
    "nl_bsn": ("111222333", "1112.22.333", "111.222.333"),
    "be_nn": ("85073003328", "85.07.30-033.28", "85 07 30 033 28"),
    "ch_ahv": ("7569217076985", "756.9217.0769.85"),
    "pl_pesel": ("44051401359",),
    "se_personnummer": ("880320-0016", "19880320-0016"),
    "no_fodselsnummer": ("15108695088", "151086 95088"),
    "fi_hetu": ("131052-308T",),
    "br_cpf": ("390.533.447-05", "39053344705"),
    "in_aadhaar": ("234123412346", "2341 2341 2346"),
}

# What looks like it and is none.
NOT_FOUND: dict[str, tuple[str, ...]] = {
    "email": ("alice@localhost", "@alice", "a@b", "alice at example.com", "price@3.50"),
    "phone": (
        "4155552671",
        "+999 1234567",
        "123-456-7890",
        "+0 30 901820",
        "3415-555-2671",
        "+1 415-555-267",
        "002024-01-01",
        "+(1) 1 1 1 1 1 1 1 1 1",
    ),
    "card": (
        "4111111111111112",
        "41111111111111111",
        "14111111111111111",
        "7111111111111116",
        "0.4111111111111111",
        "4111111111111111.25",
        "4111-1111-1111",
        "f4111111-1111-1111-8abc-1234567890ab",
        "a" * 16 + "4111111111111111",
        "1700000000000000",
    ),
    "iban": (
        "DE89370400440532013001",
        "DE8937040044053201300",
        "DE89370400440532013000X",
        "XDE89370400440532013000",
        "ZZ89370400440532013000",
        "DE89 3704 0044",
    ),
    "ip_address": (
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "v1.2.3.4",
        "std::vector",
        "12:34:56",
        "00:11:22:33:44:55",
        "ab::cd",
    ),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9", "eyJhbGci.short"),
    "aws_access_key": ("AKIAIOSFODNN7EXAMPL", "AKIAIOSFODNN7EXAMPLEX", "XAKIAIOSFODNN7EXAMPLE"),
    "private_key": ("-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----",),
    "secret_token": ("ghp_short", "the bearer of news", "sk_live_", "AccountKey=short"),
    "url_password": ("https://example.com:8080/a@b", "https://user@example.com", "a:b@c"),
    "us_ssn": ("000-90-4399", "666-90-4399", "536-90-43991", "536904399", "536-00-4399"),
    "ca_sin": ("123-456-783", "123456782"),
    "gb_nhs": ("943-476-5871", "9434765870"),
    "au_tfn": ("123 456 783", "123456782"),
    "de_idnr": ("36574261808",),
    "fr_nir": ("295109912611199",),
    "es_dni": ("54362315Z", "54362315KA", "A54362315K", "54362315"),
    "it_codicefiscale": ("RCCMNL83S18D969A", "RCCMNL83S18D969HX"),
    "nl_bsn": ("111252333", "1112223331"),
    "be_nn": ("85073003329",),
    "ch_ahv": ("7569217076984",),
    "pl_pesel": ("44051401358",),
    "se_personnummer": ("880320-0018", "8803200016"),
    "no_fodselsnummer": ("15108695077",),
    "fi_hetu": ("131052-308U", "131052-308TA"),
    "br_cpf": ("231.002.999-01",),
    "in_aadhaar": ("234123412347", "2222 2222 2222"),
}


def only(name: str) -> Masker:
    return Masker([MaskingRule(name, Transform.REDACT, detectors=(name,))], b"")


def test_both_planes_know_the_same_detectors() -> None:
    assert tuple(DETECTORS) == vocabulary.DETECTORS
    assert set(FOUND) == set(NOT_FOUND) == set(DETECTORS)


@pytest.mark.parametrize(("name", "find"), [(n, f) for n, finds in FOUND.items() for f in finds])
def test_what_is_meant_is_found_whole(name: str, find: str) -> None:
    masker = only(name)
    assert masker.text(find.encode()) == b"****"
    if not find.startswith("-----BEGIN EC"):  # cut off, so it takes all that follows
        assert masker.text(f'x,"{find}"; y'.encode()) == b'x,"****"; y'


@pytest.mark.parametrize(
    ("name", "text"), [(n, t) for n, texts in NOT_FOUND.items() for t in texts]
)
def test_what_is_not_meant_is_left_alone(name: str, text: str) -> None:
    value = f"x {text} y".encode()
    assert only(name).text(value) is value
    assert only(name).text(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("name", "text", "masked"),
    [
        ("url_password", "postgres://u:s3cret@db/x", "postgres://u:****@db/x"),
        ("url_password", "http://:p@ss@h", "http://:****@h"),
        ("card", "in 2024 4111 1111 1111 1111 or", "in 2024 **** or"),
        ("card", "1 4111111111111111.", "1 ****."),
        ("card", "No.4111111111111111", "No.****"),
        ("iban", "DE89 3704 0044 0532 0130 00 BIC COBADEFF", "**** BIC COBADEFF"),
        ("iban", "DE12 DE89 3704 0044 0532 0130 00", "DE12 ****"),
        ("phone", "+14155552671 2024", "**** 2024"),
        ("phone", "+14155552671 - 3 - 4", "**** - 3 - 4"),
        ("email", "mailto:alice@example.com,bob@example.com.", "mailto:****,****."),
        ("email", "联系bob@example.com谢谢", "联系****谢谢"),
        ("ip_address", "10.0.0.1/24 10.0.0.2:80", "****/24 ****:80"),
        ("us_ssn", "536-90-4399,536-90-4399", "****,****"),
    ],
)
def test_what_stands_around_a_find_stays(name: str, text: str, masked: str) -> None:
    assert only(name).text(text.encode()) == masked.encode()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_alone_hints_at_whatever_it_finds(name: str) -> None:
    masker = only(name)
    for find in FOUND[name]:
        assert masker.suspicious(b"\0\0\0\x10" + find.encode() + b"\xff")


@pytest.mark.parametrize(
    "repeated",
    [
        "4", "4111 ", "de12", "DE89", "+1", "+1 1 1 1 1 1 1 ", "+12345678", "a@", "a@b.", "x'",
        "415-555-", "1.", "::1 ", "a:", "%40", "&#64;", "\u200b", "４", "eyJaaaaaaaaa.", "://a:",
        "-----BEGIN PRIVATE KEY-----", "AKIA", "756.", "4111111111111111 ", "123456789 ",
    ],
)  # fmt: skip
def test_no_text_takes_time_out_of_proportion(repeated: str) -> None:
    masker = Masker([MaskingRule("all", Transform.REDACT, detectors=vocabulary.DETECTORS)], b"")

    def seconds(length: int) -> float:
        text = (repeated * length).encode()[:length]
        started = time.process_time()
        masker.text(text)
        return time.process_time() - started

    # Quadratic would be 64 times as long, every time; other work on the machine comes and goes.
    assert any(seconds(16_384) < 32 * seconds(2_048) + 0.1 for _ in range(5))
