"""The national numbers of persons, each with the check that its country prescribes.

Counterpart: :mod:`data_plane.masking.detectors` makes detectors of them. Numbers without a
check digit are only looked for in the form in which they're printed. Where the check is weak
(a Dutch BSN: one number in eleven passes), the documentation says so; it is not made up for
by guessing at the words around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stdnum.au import tfn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn


@dataclass(frozen=True, slots=True)
class Identifier:
    """How a number is written, and the check that it must pass.

    ``verbatim``: its separators are part of what the check looks at. ``lettered``: it has
    letters, so a letter beside it makes it a part of something else.
    """

    layout: str
    is_valid: Callable[[str], bool]
    verbatim: bool = False
    lettered: bool = False


_S = r"[ .\-]"  # a separator that must be there
_G = r"[ .\-]?"  # and one that may
_D = "[0-9]"


def _spanish(number: str) -> bool:
    return bool(dni.is_valid(number) or nie.is_valid(number))


IDENTIFIERS: Mapping[str, Identifier] = MappingProxyType(
    {
        "us_ssn": Identifier(f"{_D}{{3}}{_S}{_D}{{2}}{_S}{_D}{{4}}", ssn.is_valid),
        "ca_sin": Identifier(f"[1-79]{_D}{{2}}{_S}{_D}{{3}}{_S}{_D}{{3}}", sin.is_valid),
        "gb_nhs": Identifier(f"{_D}{{3}}{_S}{_D}{{3}}{_S}{_D}{{4}}", nhs.is_valid),
        "au_tfn": Identifier(f"{_D}{{3}}{_S}{_D}{{3}}{_S}{_D}{{2,3}}", tfn.is_valid),
        "de_idnr": Identifier(f"[1-9]{_D}(?:{_G}{_D}{{3}}){{3}}", idnr.is_valid),
        "fr_nir": Identifier(
            f"[1-8]{_G}{_D}{{2}}{_G}{_D}{{2}}{_G}{_D}[0-9ABab]{_G}{_D}{{3}}{_G}{_D}{{3}}{_G}{_D}{{2}}",
            nir.is_valid,
        ),
        "es_dni": Identifier(
            f"(?:{_D}{{2}}{_G}{_D}{{3}}{_G}{_D}{{3}}|[XYZxyz]{_G}{_D}{{7}}){_G}[A-Za-z]",
            _spanish,
            lettered=True,
        ),
        # Any of its digits may be written as a letter of L to V (omocodia).
        "it_codicefiscale": Identifier(
            r"(?i:[A-Z]{6}[0-9L-NP-V]{2}[A-EHLMPRST][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z])",
            codicefiscale.is_valid,
            lettered=True,
        ),
        "nl_bsn": Identifier(
            f"{_D}{{9}}|{_D}{{4}}{_S}{_D}{{2}}{_S}{_D}{{3}}|{_D}{{3}}{_S}{_D}{{3}}{_S}{_D}{{3}}",
            bsn.is_valid,
        ),
        "be_nn": Identifier(f"(?:{_D}{{2}}{_G}){{3}}{_D}{{3}}{_G}{_D}{{2}}", nn.is_valid),
        "ch_ahv": Identifier(f"756{_G}{_D}{{4}}{_G}{_D}{{4}}{_G}{_D}{{2}}", ahv.is_valid),
        "pl_pesel": Identifier(f"{_D}{{11}}", pesel.is_valid),
        "se_personnummer": Identifier(
            rf"(?:{_D}{{2}})?{_D}{{6}}[\-+]{_D}{{4}}", personnummer.is_valid, verbatim=True
        ),
        "no_fodselsnummer": Identifier(f"{_D}{{6}}{_G}{_D}{{5}}", fodselsnummer.is_valid),
        "fi_hetu": Identifier(
            rf"{_D}{{6}}[\-+A-FU-Ya-fu-y]{_D}{{3}}[0-9A-Ya-y]",
            hetu.is_valid,
            verbatim=True,
            lettered=True,
        ),
        "br_cpf": Identifier(f"(?:{_D}{{3}}{_G}){{3}}{_D}{{2}}", cpf.is_valid),
        "in_aadhaar": Identifier(f"[2-9]{_D}{{3}}(?:{_G}{_D}{{4}}){{2}}", aadhaar.is_valid),
    }
)
"""Every national number, by the name of its detector."""
