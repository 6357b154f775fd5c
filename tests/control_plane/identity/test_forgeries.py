"""Tokens that must be refused, each for its own reason; and the few that must not be."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.errors import Unauthenticated
from control_plane.identity.clouds import CHINA, PUBLIC, US_GOVERNMENT
from control_plane.identity.entra import EntraVerifier
from control_plane.identity.reasons import REASONS
from protos.vocabulary import Principal, PrincipalKind
from tests.control_plane.tokens import (
    AUDIENCE,
    BLUEPRINT,
    CLIENT,
    FOREIGN,
    KID,
    TENANT,
    Documents,
    b64,
    claims,
    guid,
    public_jwk,
    sign,
    to_json,
    verifier,
)

NOW = 1_800_000_000
APP, USER = PrincipalKind.APPLICATION, PrincipalKind.USER
AGENT, BEHALF = PrincipalKind.AGENT, PrincipalKind.AGENT_ON_BEHALF
AGENT_USER, MANAGED = PrincipalKind.AGENT_USER, PrincipalKind.MANAGED_IDENTITY
HEADER = {"typ": "JWT", "alg": "RS256", "kid": KID}


def shaped(kind: PrincipalKind = APP, **changes: Any) -> dict[str, Any]:
    return claims(kind, at=NOW, **changes)


def code_of(token: str, **accepted: Any) -> str:
    """The reason code of a refusal; fails if the token is accepted."""
    with pytest.raises(Unauthenticated) as refused:
        verifier(clock=lambda: NOW, **accepted).verify(token)
    assert refused.value.code in REASONS
    assert refused.value.message == REASONS[refused.value.code]
    return refused.value.code


def raw(text: str) -> bytes:
    return text.encode()


def duplicated(name: str, first: Any, document: dict[str, Any]) -> bytes:
    """A JSON object with one name twice; most readers take the last."""
    return raw("{" + json.dumps(name) + ":" + json.dumps(first) + "," + json.dumps(document)[1:])


SIGNED = sign(shaped())
HEAD, BODY, TAIL = SIGNED.split(".")


def tail_with_stray_bits() -> str:
    """The same signature bytes, spelt with unused bits set: it decodes alike."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(TAIL[-1]) + 1]
    assert base64.urlsafe_b64decode(TAIL[:-1] + last + "==") == base64.urlsafe_b64decode(
        TAIL + "=="
    )
    return TAIL[:-1] + last


FORM = {
    "nothing": ("", "token_missing"),
    "one_segment": ("abc", "token_malformed"),
    "two_segments": (f"{HEAD}.{BODY}", "token_malformed"),
    "four_segments": (f"{SIGNED}.AAAA", "token_malformed"),
    "five_segments_of_an_encrypted_token": (f"{HEAD}.A.A.A.A", "token_malformed"),
    "empty_signature": (f"{HEAD}.{BODY}.", "token_malformed"),
    "empty_payload": (f"{HEAD}..{TAIL}", "token_malformed"),
    "empty_header": (f".{BODY}.{TAIL}", "token_malformed"),
    "padding_behind_the_signature": (f"{SIGNED}==", "token_malformed"),
    "padding_behind_the_payload": (f"{HEAD}.{BODY}=.{TAIL}", "token_malformed"),
    "stray_bits_in_the_signature": (f"{HEAD}.{BODY}.{tail_with_stray_bits()}", "token_malformed"),
    "standard_alphabet": (f"{HEAD}.{BODY}.{'+/' + TAIL[2:]}", "token_malformed"),
    "space_in_front": (f" {SIGNED}", "token_malformed"),
    "newline_behind": (f"{SIGNED}\n", "token_malformed"),
    "not_ascii": (f"{SIGNED[:-1]}é", "token_malformed"),
    "lone_surrogate": (f"{SIGNED[:-1]}\ud800", "token_malformed"),
    "impossible_length_of_a_segment": (f"{HEAD}.{BODY}.AAAAA", "token_malformed"),
    "too_large": (f"{HEAD}.{BODY}.{'A' * 16384}", "token_too_large"),
    "huge": ("." * 50_000_000, "token_too_large"),
    "header_is_a_list": (sign(shaped(), b'["RS256"]'), "token_malformed"),
    "header_is_no_json": (sign(shaped(), b"{"), "token_malformed"),
    "header_is_no_utf8": (sign(shaped(), b'{"alg":"\xff"}'), "token_malformed"),
    "header_with_alg_twice": (sign(shaped(), duplicated("alg", "none", HEADER)), "token_malformed"),
    "header_nested_deeply": (sign(shaped(), raw("[" * 11_000)), "token_malformed"),
    "header_nested_just_below_the_bound": (
        sign(shaped(), raw('{"a":' * 1900 + "1" + "}" * 1900)),
        "token_malformed",
    ),
}


@pytest.mark.parametrize("name", FORM)
def test_a_token_of_the_wrong_form_is_refused(name: str) -> None:
    token, code = FORM[name]
    assert code_of(token) == code


HEADERS = {
    "alg_none": ({"alg": "none"}, "alg_not_allowed"),
    "alg_None": ({"alg": "None"}, "alg_not_allowed"),
    "alg_hs256": ({"alg": "HS256"}, "alg_not_allowed"),
    "alg_rs512": ({"alg": "RS512"}, "alg_not_allowed"),
    "alg_ps256": ({"alg": "PS256"}, "alg_not_allowed"),
    "alg_es256": ({"alg": "ES256"}, "alg_not_allowed"),
    "alg_lower_case": ({"alg": "rs256"}, "alg_not_allowed"),
    "alg_list": ({"alg": ["RS256"]}, "alg_not_allowed"),
    "alg_missing": ({"alg": None}, "alg_not_allowed"),
    "typ_logout": ({"typ": "logout+jwt"}, "type_not_allowed"),
    "typ_missing": ({"typ": None}, "type_not_allowed"),
    "typ_list": ({"typ": ["JWT"]}, "type_not_allowed"),
    "crit": ({"crit": ["exp"]}, "header_not_allowed"),
    "crit_empty": ({"crit": []}, "header_not_allowed"),
    "b64_false": ({"b64": False}, "header_not_allowed"),
    "jku": ({"jku": "https://evil.example/keys"}, "header_not_allowed"),
    "jwk": ({"jwk": public_jwk("evil")}, "header_not_allowed"),
    "x5u": ({"x5u": "https://evil.example/cert"}, "header_not_allowed"),
    "x5c": ({"x5c": ["AAAA"]}, "header_not_allowed"),
    "zip": ({"zip": "DEF"}, "header_not_allowed"),
    "enc": ({"enc": "A256GCM"}, "header_not_allowed"),
    "graph_nonce": ({"nonce": "AQABAAAAAAD"}, "header_not_allowed"),
    "kid_missing": ({"kid": None}, "unknown_key"),
    "kid_empty": ({"kid": ""}, "unknown_key"),
    "kid_number": ({"kid": 1}, "unknown_key"),
    "kid_list": ({"kid": [KID]}, "unknown_key"),
    "kid_long": ({"kid": "k" * 129}, "unknown_key"),
    "kid_path": ({"kid": "../../../../dev/null"}, "unknown_key"),
    "kid_sql": ({"kid": "' OR 1=1 --"}, "unknown_key"),
    "kid_other_case": ({"kid": KID.upper()}, "unknown_key"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_asks_for_something_else_is_refused(name: str) -> None:
    changes, code = HEADERS[name]
    header = {key: value for key, value in (HEADER | changes).items() if value is not None}
    assert code_of(sign(shaped(), header)) == code


def test_an_unsigned_token_with_graphs_nonce_is_refused() -> None:
    header = b64(to_json(HEADER | {"nonce": "x"}))
    assert code_of(f"{header}.{BODY}.AAAA") == "header_not_allowed"


SIGNATURES = {
    "another_key_under_a_known_kid": sign(shaped(), HEADER, key="evil"),
    "changed_payload": f"{HEAD}.{b64(to_json(shaped(roles=['jitgate.admin'])))}.{TAIL}",
    "changed_header": f"{b64(to_json(HEADER | {'x5t': 'other'}))}.{BODY}.{TAIL}",
    "short": f"{HEAD}.{BODY}.{b64(base64.urlsafe_b64decode(TAIL + '==')[:-1])}",
    "one_byte": f"{HEAD}.{BODY}.AA",
    "zeros": f"{HEAD}.{BODY}.{b64(bytes(256))}",
    "all_ones": f"{HEAD}.{BODY}.{b64(bytes([255]) * 256)}",
    "leading_zero": f"{HEAD}.{BODY}.{b64(bytes(1) + base64.urlsafe_b64decode(TAIL + '=='))}",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_that_does_not_fit_is_refused(name: str) -> None:
    assert code_of(SIGNATURES[name]) == "signature_invalid"


def test_the_public_key_as_a_shared_secret_is_refused() -> None:
    header = b64(to_json(HEADER | {"alg": "HS256"}))
    assert code_of(f"{header}.{BODY}.{b64(bytes(32))}") == "alg_not_allowed"


PAYLOADS: dict[str, tuple[bytes, str]] = {
    "list": (b"[]", "token_malformed"),
    "text": (b'"text"', "token_malformed"),
    "no_json": (b"{]", "token_malformed"),
    "no_utf8": (b'{"tid":"\xff"}', "token_malformed"),
    "byte_order_mark": (b"\xef\xbb\xbf" + to_json(shaped()), "token_malformed"),
    "aud_twice": (duplicated("aud", "other", shaped()), "token_malformed"),
    "roles_twice": (duplicated("roles", ["x"], shaped(roles=["y"])), "token_malformed"),
    "a_name_twice_deep_inside": (
        to_json(shaped())[:-1] + b',"x":{"a":1,"a":2}}',
        "token_malformed",
    ),
    "exp_twice": (duplicated("exp", 1, shaped()), "token_malformed"),
    "nested_deeply": (raw('{"a":' + "[" * 11_500), "token_malformed"),
    "number_of_5000_digits": (raw('{"exp":' + "9" * 5000 + "}"), "token_malformed"),
    "exp_infinity": (b'{"exp":Infinity}', "token_malformed"),
    "exp_nan": (b'{"exp":NaN}', "token_malformed"),
    "trailing_text": (to_json(shaped()) + b"{}", "token_malformed"),
    "empty_object": (b"{}", "tenant_not_accepted"),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_that_two_readers_could_read_differently_is_refused(name: str) -> None:
    payload, code = PAYLOADS[name]
    assert code_of(sign(payload)) == code


def issuer(tenant: str = TENANT) -> str:
    return PUBLIC.issuer("2.0", tenant)


CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    # Tenant and issuer
    "foreign_tenant": ({"tid": FOREIGN, "iss": issuer(FOREIGN)}, "tenant_not_accepted"),
    "foreign_tenant_with_our_issuer": ({"tid": FOREIGN}, "tenant_not_accepted"),
    "our_tenant_with_a_foreign_issuer": ({"iss": issuer(FOREIGN)}, "issuer_not_accepted"),
    "personal_accounts": (
        {
            "tid": "9188040d-6c67-4c5b-b112-36a304b66dad",
            "iss": issuer("9188040d-6c67-4c5b-b112-36a304b66dad"),
        },
        "tenant_not_accepted",
    ),
    "tenant_in_upper_case": ({"tid": TENANT.upper()}, "tenant_not_accepted"),
    "tenant_missing": ({"tid": None}, "tenant_not_accepted"),
    "tenant_list": ({"tid": [TENANT]}, "tenant_not_accepted"),
    "tenant_is_common": ({"tid": "common"}, "tenant_not_accepted"),
    "issuer_of_version_1": (
        {"iss": PUBLIC.issuer("1.0", TENANT), "ver": "1.0"},
        "issuer_not_accepted",
    ),
    "issuer_with_a_slash": ({"iss": issuer() + "/"}, "issuer_not_accepted"),
    "issuer_without_version": ({"iss": issuer().removesuffix("/v2.0")}, "issuer_not_accepted"),
    "issuer_of_another_cloud": (
        {"iss": US_GOVERNMENT.issuer("2.0", TENANT)},
        "issuer_not_accepted",
    ),
    "issuer_of_china": ({"iss": CHINA.issuer("2.0", TENANT)}, "issuer_not_accepted"),
    "issuer_plain_http": ({"iss": issuer().replace("https", "http")}, "issuer_not_accepted"),
    "issuer_look_alike": (
        {"iss": f"https://login.microsoftonline.com.evil.example/{TENANT}/v2.0"},
        "issuer_not_accepted",
    ),
    "issuer_template": ({"iss": issuer("{tenantid}")}, "issuer_not_accepted"),
    "issuer_list": ({"iss": [issuer()]}, "issuer_not_accepted"),
    "issuer_missing": ({"iss": None}, "issuer_not_accepted"),
    # Audience
    "audience_graph": (
        {"aud": "00000003-0000-0000-c000-000000000000"},
        "audience_not_accepted",
    ),
    "audience_graph_url": ({"aud": "https://graph.microsoft.com"}, "audience_not_accepted"),
    "audience_token_exchange_of_an_agents_first_token": (
        {
            "aud": "fb60f99c-7a34-4190-8149-302f77469936",
            "sub": f"/eid1/c/pub/t/x/a/y/{CLIENT}",
        },
        "audience_not_accepted",
    ),
    "audience_list_with_ours": ({"aud": [AUDIENCE]}, "audience_not_accepted"),
    "audience_with_a_slash": ({"aud": AUDIENCE + "/"}, "audience_not_accepted"),
    "audience_in_upper_case": ({"aud": AUDIENCE.upper()}, "audience_not_accepted"),
    "audience_uri": ({"aud": f"api://{AUDIENCE}"}, "audience_not_accepted"),
    "audience_object": ({"aud": {"x": AUDIENCE}}, "audience_not_accepted"),
    "audience_missing": ({"aud": None}, "audience_not_accepted"),
    # Version
    "version_1_in_a_version_2_issuer": ({"ver": "1.0"}, "version_not_accepted"),
    "version_number": ({"ver": 2.0}, "version_not_accepted"),
    "version_missing": ({"ver": None}, "version_not_accepted"),
    # Time
    "expired": ({"exp": NOW - 61}, "token_expired"),
    "expired_at_the_last_second": ({"exp": NOW - 60}, "token_expired"),
    "not_yet_valid": ({"nbf": NOW + 61}, "token_not_yet_valid"),
    "issued_in_the_future": ({"iat": NOW + 61}, "token_not_yet_valid"),
    "thirty_hours": ({"iat": NOW - 300, "exp": NOW + 30 * 3600}, "lifetime_too_long"),
    "a_hundred_years": ({"exp": NOW + 3_000_000_000}, "lifetime_too_long"),
    "ends_before_it_begins": ({"iat": NOW + 30, "exp": NOW + 10}, "lifetime_too_long"),
    "exp_missing": ({"exp": None}, "claim_missing"),
    "nbf_missing": ({"nbf": None}, "claim_missing"),
    "iat_missing": ({"iat": None}, "claim_missing"),
    "exp_text": ({"exp": str(NOW + 60)}, "claims_malformed"),
    "exp_true": ({"exp": True}, "claims_malformed"),
    "exp_float": ({"exp": NOW + 60.5}, "claims_malformed"),
    "exp_list": ({"exp": [NOW + 60]}, "claims_malformed"),
    "exp_negative": ({"exp": -1}, "claims_malformed"),
    "exp_beyond_exact_floats": ({"exp": 2**53 + 1}, "claims_malformed"),
    "nbf_false": ({"nbf": False}, "claims_malformed"),
    # Not an access token of this gateway
    "id_token": ({"nonce": "x", "idtyp": None}, "id_token"),
    "id_token_of_a_hybrid_flow": ({"c_hash": "x"}, "id_token"),
    "id_token_with_app_roles": (
        {"idtyp": None, "roles": ["jitgate.admin"], "name": "Ada"},
        "kind_undetermined",
    ),
    "proof_of_possession": ({"cnf": {"kid": "x"}}, "proof_not_supported"),
    # Client and identity
    "appid_and_azp_equal": ({"appid": CLIENT}, "client_ambiguous"),
    "appid_and_azp_disagree": ({"appid": guid("other")}, "client_ambiguous"),
    "appid_instead_of_azp": ({"azp": None, "appid": CLIENT}, "claim_missing"),
    "client_missing": ({"azp": None}, "claim_missing"),
    "client_no_guid": ({"azp": "my-app"}, "claims_malformed"),
    "object_missing": ({"oid": None}, "claim_missing"),
    "object_no_guid": ({"oid": "ada@example.com"}, "claims_malformed"),
    "object_number": ({"oid": 7}, "claims_malformed"),
    "object_with_a_newline": ({"oid": guid("x") + "\n"}, "claims_malformed"),
    # Kind
    "app_with_a_scope": ({"scp": "access_as_user"}, "kind_contradictory"),
    "neither_idtyp_nor_scope": ({"idtyp": None}, "kind_undetermined"),
    "user_without_a_scope": ({"idtyp": "user"}, "kind_undetermined"),
    "user_with_an_empty_scope": ({"idtyp": "user", "scp": "/"}, "kind_undetermined"),
    "device": ({"idtyp": "device"}, "kind_undetermined"),
    "idtyp_in_capitals": ({"idtyp": "APP"}, "kind_undetermined"),
    "idtyp_list": ({"idtyp": ["app"]}, "kind_undetermined"),
    "scope_list": ({"idtyp": "user", "scp": ["a"]}, "claims_malformed"),
    "scope_with_two_spaces": ({"idtyp": "user", "scp": "a  b"}, "claims_malformed"),
    "facets_list": ({"xms_act_fct": [11], "xms_sub_fct": [11]}, "claims_malformed"),
    "facets_number": ({"xms_act_fct": 11, "xms_sub_fct": 11}, "claims_malformed"),
    "facets_with_commas": ({"xms_act_fct": "11,3"}, "claims_malformed"),
    "facets_negative": ({"xms_act_fct": "-11"}, "claims_malformed"),
    "facets_in_other_digits": ({"xms_act_fct": "\u0661\u0661"}, "claims_malformed"),
    "facets_endless": ({"xms_act_fct": "1 " * 100 + "1"}, "claims_malformed"),
    "agent_only_as_actor": ({"xms_act_fct": "11"}, "kind_contradictory"),
    "agent_only_as_subject": ({"xms_sub_fct": "11"}, "kind_contradictory"),
    "app_only_agent_user": ({"xms_act_fct": "11", "xms_sub_fct": "13"}, "kind_contradictory"),
    "agent_user_as_actor": ({"xms_act_fct": "13", "xms_sub_fct": "11"}, "kind_contradictory"),
    "blueprint_without_facets": ({"xms_par_app_azp": BLUEPRINT}, "agent_facets_missing"),
    "blueprint_with_113": (
        {"xms_par_app_azp": BLUEPRINT, "xms_act_fct": "113", "xms_sub_fct": "113"},
        "agent_facets_missing",
    ),
    "blueprint_with_1_1": (
        {"xms_par_app_azp": BLUEPRINT, "xms_act_fct": "1 1", "xms_sub_fct": "1 1"},
        "agent_facets_missing",
    ),
    "blueprint_list": ({"xms_par_app_azp": [BLUEPRINT]}, "claims_malformed"),
    "managed_identity_with_agent_facets": (
        {"xms_mirid": "/subscriptions/x", "xms_act_fct": "11", "xms_sub_fct": "11"},
        "kind_contradictory",
    ),
    "managed_identity_number": ({"xms_mirid": 1}, "claims_malformed"),
    # Roles and groups
    "roles_text": ({"roles": "jitgate.admin"}, "claims_malformed"),
    "roles_nested": ({"roles": [["jitgate.admin"]]}, "claims_malformed"),
    "roles_with_a_newline": ({"roles": ["a\nb"]}, "claims_malformed"),
    "roles_empty_name": ({"roles": [""]}, "claims_malformed"),
    "roles_too_many": ({"roles": ["r"] * 1001}, "claims_malformed"),
    "groups_names": ({"groups": ["Domain Admins"]}, "claims_malformed"),
    "groups_upper_case": ({"groups": [guid("g").upper()]}, "claims_malformed"),
    "groups_text": ({"groups": guid("g")}, "claims_malformed"),
    "groups_null": ({"groups": [None]}, "claims_malformed"),
    "groups_201": ({"groups": [guid(f"g{n}") for n in range(201)]}, "claims_malformed"),
    "overage_with_a_hostile_endpoint": (
        {
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://169.254.169.254/x"}},
        },
        "groups_overage",
    ),
    "overage_beside_groups": (
        {"_claim_names": {"groups": "src1"}, "groups": [guid("g")]},
        "groups_overage",
    ),
    "overage_of_the_implicit_flow": ({"hasgroups": True}, "groups_overage"),
    "overage_as_text": ({"hasgroups": "true"}, "groups_overage"),
    "claim_names_list": ({"_claim_names": ["groups"]}, "claims_malformed"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_well_signed_token_with_wrong_claims_is_refused(name: str) -> None:
    changes, code = CLAIMS[name]
    assert code_of(sign(shaped(**changes))) == code


DELEGATED: dict[str, tuple[dict[str, Any], str]] = {
    "managed_identity": ({"xms_mirid": "/subscriptions/x"}, "kind_contradictory"),
    "agent_as_subject": ({"xms_act_fct": "11", "xms_sub_fct": "11"}, "kind_contradictory"),
    "agent_as_subject_alone": ({"xms_sub_fct": "11"}, "kind_contradictory"),
    "agent_user_as_actor": ({"xms_act_fct": "11 13"}, "kind_contradictory"),
    "agent_user_without_an_agent": ({"xms_sub_fct": "13"}, "kind_contradictory"),
    "blueprint_without_facets": ({"xms_par_app_azp": BLUEPRINT}, "agent_facets_missing"),
    "even_noise_only": (
        {"xms_par_app_azp": BLUEPRINT, "xms_act_fct": "10 3", "xms_sub_fct": "14 3"},
        "agent_facets_missing",
    ),
}


@pytest.mark.parametrize("name", DELEGATED)
def test_a_delegated_token_of_two_kinds_is_refused(name: str) -> None:
    changes, code = DELEGATED[name]
    assert code_of(sign(shaped(USER, **changes))) == code


def test_an_id_token_of_a_user_is_no_access_token() -> None:
    token = sign(shaped(USER, scp=None, idtyp=None, nonce="n"))
    assert code_of(token) == "id_token"


def test_a_client_that_is_not_listed_is_refused() -> None:
    assert code_of(SIGNED, clients=frozenset({guid("other")})) == "client_not_accepted"


def test_a_listed_client_is_accepted() -> None:
    found = verifier(clock=lambda: NOW, clients=frozenset({CLIENT})).verify(SIGNED)
    assert found.client_id == CLIENT


def test_a_token_without_groups_is_refused_where_the_registration_does_not_emit_them() -> None:
    assert code_of(SIGNED, groups_emitted=False) == "groups_unknown"


def test_a_version_2_token_is_refused_where_version_1_is_accepted() -> None:
    assert code_of(SIGNED, version="1.0") == "issuer_not_accepted"


def test_graph_is_refused_even_if_it_was_configured() -> None:
    graph = "00000003-0000-0000-c000-000000000000"
    assert code_of(sign(shaped(aud=graph)), audiences=frozenset({graph})) == "audience_not_accepted"


def test_personal_accounts_are_refused_even_if_they_were_configured() -> None:
    msa = "9188040d-6c67-4c5b-b112-36a304b66dad"
    token = sign(shaped(tid=msa, iss=issuer(msa)))
    assert code_of(token, tenants=frozenset({msa})) == "tenant_not_accepted"


def test_a_key_that_was_replaced_under_its_own_id_verifies_nothing_old() -> None:
    documents = Documents(public_jwk("evil", kid=KID))
    checking = verifier(documents, clock=lambda: NOW)
    with pytest.raises(Unauthenticated) as refused:
        checking.verify(SIGNED)
    assert refused.value.code == "signature_invalid"


def test_a_token_is_refused_while_keys_cannot_be_fetched() -> None:
    documents = Documents({"kty": "oct", "k": "AAAA"})
    with pytest.raises(Unauthenticated) as refused:
        verifier(documents, clock=lambda: NOW).verify(SIGNED)
    assert refused.value.code == "keys_unavailable"


def test_a_foreign_tenants_token_makes_nobody_fetch_anything() -> None:
    documents = Documents()
    with pytest.raises(Unauthenticated):
        verifier(documents, clock=lambda: NOW).verify(sign(shaped(tid=FOREIGN)))
    assert documents.fetched == []


def test_an_error_of_our_own_is_a_refusal_too() -> None:
    class Broken(Documents):
        def __call__(self, url: str) -> bytes:
            raise ZeroDivisionError(SIGNED)

    with pytest.raises(Unauthenticated) as refused:
        verifier(Broken(), clock=lambda: NOW).verify(SIGNED)
    assert refused.value.code == "token_malformed"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
def test_any_text_is_refused_and_never_crashes(text: str) -> None:
    assert code_of(text) in REASONS


SHARED = Documents()


def accepted_or_refused(token: str) -> Principal | None:
    """The principal, or None after a refusal with a known code; any other error passes."""
    try:
        return verifier(SHARED, clock=lambda: NOW).verify(token)
    except Unauthenticated as refused:
        if refused.code not in REASONS:
            raise
        return None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(shaped(BEHALF) | {"groups": 1, "roles": 1, "cnf": 1})), json_values)
def test_any_value_of_a_claim_is_accepted_or_refused_but_never_crashes(
    name: str, value: Any
) -> None:
    principal = accepted_or_refused(sign(shaped(BEHALF) | {name: value}))
    if principal is not None:
        assert principal.tenant == TENANT
        principal.name.encode()


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "x"]), json_values))
def test_any_header_is_accepted_or_refused_but_never_crashes(header: dict[str, Any]) -> None:
    accepted_or_refused(sign(shaped(), header))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SIGNED) - 1), st.characters())
def test_a_token_with_one_changed_character_is_refused(position: int, character: str) -> None:
    if SIGNED[position] != character:
        code_of(SIGNED[:position] + character + SIGNED[position + 1 :])


def test_there_are_many_forgeries_and_together_they_reach_every_reason() -> None:
    codes = {code for _, code in FORM.values()} | {code for _, code in HEADERS.values()}
    codes |= {code for _, code in PAYLOADS.values()} | {code for _, code in CLAIMS.values()}
    elsewhere = {"keys_unavailable", "signature_invalid", "client_not_accepted", "groups_unknown"}
    assert codes | elsewhere == set(REASONS)
    assert len(CLAIMS) + len(HEADERS) + len(DELEGATED) >= 60


def make(clock: float = NOW, **accepted: Any) -> EntraVerifier:
    return verifier(clock=lambda: clock, **accepted)


@pytest.mark.parametrize("kind", PrincipalKind)
def test_each_kind_is_told_apart(kind: PrincipalKind) -> None:
    found = make().verify(sign(shaped(kind, roles=["r"], groups=[guid("g")])))
    assert found.kind is kind
    assert (found.tenant, found.object_id, found.client_id) == (TENANT, guid("agent-one"), CLIENT)
    assert found.roles == {"r"}
    assert found.groups == {guid("g")}
    assert found.expires_at == NOW + 3600


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"xms_act_fct": "3 9 11 10", "xms_sub_fct": "28 11 7"}, AGENT),
        ({"xms_act_fct": "113", "xms_sub_fct": "113"}, APP),
        ({"xms_act_fct": "1 1", "xms_sub_fct": "1 3"}, APP),
        ({"xms_act_fct": "3 9", "xms_mirid": "/subscriptions/other/y"}, MANAGED),
        ({"scp": ""}, APP),
        ({"scp": "/"}, APP),
        ({"idtyp": None, "scp": "a b"}, USER),
        ({"idtyp": "user", "scp": "a", "xms_act_fct": "11", "xms_sub_fct": "10 3"}, BEHALF),
        ({"idtyp": "user", "scp": "a", "xms_act_fct": "11 9", "xms_sub_fct": "3 13"}, AGENT_USER),
    ],
)
def test_facets_count_as_whole_numbers_in_any_order(
    changes: dict[str, Any], kind: PrincipalKind
) -> None:
    assert make().verify(sign(shaped(**changes))).kind is kind


def test_version_1_tokens_are_accepted_where_configured() -> None:
    documents = Documents(cloud=PUBLIC)
    token = sign(
        shaped(
            iss=PUBLIC.issuer("1.0", TENANT),
            ver="1.0",
            azp=None,
            appid=CLIENT,
            aud="api://gateway/",
        )
    )
    accepting = verifier(
        documents, clock=lambda: NOW, version="1.0", audiences=frozenset({"api://gateway/"})
    )
    assert accepting.verify(token).client_id == CLIENT
    assert "/v2.0/" not in documents.fetched[0]


def test_the_clock_may_differ_by_a_minute() -> None:
    token = sign(shaped(nbf=NOW, iat=NOW, exp=NOW + 3600))
    assert make(NOW - 60).verify(token)
    assert make(NOW + 3600 + 59).verify(token)


def test_an_access_token_of_28_hours_is_accepted() -> None:
    assert make().verify(sign(shaped(exp=NOW + 28 * 3600)))


def test_a_newer_type_of_header_is_accepted() -> None:
    assert make().verify(sign(shaped(), HEADER | {"typ": "at+jwt", "x5t": "x"}))


@pytest.mark.parametrize(
    ("kind", "changes", "name"),
    [
        (USER, {"name": "Ada"}, "Ada"),
        (USER, {"name": "", "preferred_username": "ada@x"}, "ada@x"),
        (USER, {"name": 7, "unique_name": "ada"}, "ada"),
        (USER, {"name": "A\x1b[2J\u202e\ud800" + "x" * 300}, "A?[2J??" + "x" * 193),
        (USER, {"name": None}, ""),
        (APP, {"app_displayname": "bot", "name": "Not this"}, "bot"),
    ],
)
def test_a_name_is_for_people_and_safe_to_print(
    kind: PrincipalKind, changes: dict[str, Any], name: str
) -> None:
    token = sign(shaped(kind) | changes)
    assert make().verify(token).name == name


def test_an_identity_without_groups_has_none() -> None:
    assert make().verify(SIGNED).groups == frozenset()
    assert make().verify(sign(shaped(_claim_names={"other": "src1"}))).groups == frozenset()
