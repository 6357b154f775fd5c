"""Strategies that make any value of the contract between the planes."""

from __future__ import annotations

from hypothesis import strategies as st

from protos.policy import Masking, Policy, PolicySet, Rule, Subject, TargetSelector
from protos.vocabulary import (
    ApprovalTerms,
    Credential,
    MaskingRule,
    Operation,
    Outcome,
    Principal,
    PrincipalKind,
    Requirement,
    Resource,
    Risk,
    Scope,
    Target,
    Transform,
    Verdict,
)

# What protobuf's strings can hold: any text without lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.frozensets(texts, max_size=3)
tuples = st.lists(texts, max_size=3).map(tuple)
maps = st.dictionaries(texts, texts, max_size=3)
counts = st.integers(0, 2**32 - 1)
moments = st.integers(-(2**63), 2**63 - 1)

resources = st.builds(Resource, texts, st.booleans(), texts)
operations = st.builds(
    Operation,
    protocol=texts,
    action=texts,
    resources=st.lists(resources, max_size=3).map(tuple),
    risk=st.sampled_from(Risk),
    text=texts,
    digest=st.binary(max_size=32),
    facts=maps,
)
principals = st.builds(
    Principal,
    tenant=texts,
    object_id=texts,
    client_id=texts,
    kind=st.sampled_from(PrincipalKind),
    name=texts,
    roles=words,
    groups=words,
    expires_at=moments,
)
requirements = st.builds(Requirement, texts, words, counts)
terms = st.builds(
    ApprovalTerms,
    requirements=st.lists(requirements, max_size=3).map(tuple),
    hold_seconds=counts,
    validity_seconds=counts,
    self_approval=st.booleans(),
    reason_required=st.booleans(),
    scopes=st.frozensets(st.sampled_from(Scope)),
)
verdicts = st.builds(
    Verdict,
    outcome=st.sampled_from(Outcome),
    code=texts,
    reason=texts,
    rule=texts,
    terms=st.none() | terms,
    approval_id=texts,
    decided_by=texts,
)
targets = st.builds(
    Target,
    name=texts,
    protocol=texts,
    host=texts,
    port=counts,
    database=texts,
    labels=maps,
    tls=texts,
    ca=texts,
    relays=words,
)
credentials = st.builds(Credential, texts, texts)
masking_rules = st.builds(
    MaskingRule,
    name=texts,
    transform=st.sampled_from(Transform),
    columns=tuples,
    detectors=tuples,
    keep=counts,
    constant=texts,
)
selectors = st.builds(TargetSelector, tuples, maps)
subjects = st.builds(
    Subject, words, words, words, st.frozensets(st.sampled_from(PrincipalKind), max_size=3)
)
rules = st.builds(
    Rule,
    name=texts,
    outcome=st.sampled_from(Outcome),
    risks=st.frozensets(st.sampled_from(Risk), max_size=3),
    actions=tuples,
    resources=tuples,
    facts=st.dictionaries(texts, tuples, max_size=3),
    terms=st.none() | terms,
    reason=texts,
)
policies = st.builds(
    Policy,
    name=texts,
    subjects=st.lists(subjects, max_size=2).map(tuple),
    targets=selectors,
    rules=st.lists(rules, max_size=2).map(tuple),
    masking=st.lists(masking_rules, max_size=2).map(tuple),
    not_after=moments,
)
maskings = st.builds(Masking, texts, selectors, st.lists(masking_rules, max_size=2).map(tuple))
policy_sets = st.builds(
    PolicySet,
    texts,
    st.lists(policies, max_size=2).map(tuple),
    st.lists(maskings, max_size=2).map(tuple),
)
