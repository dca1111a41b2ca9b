"""What a TLS server shows: its certificates, and which of them is why nobody trusts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
import ssl
from typing import Any

from attrs import frozen

# OpenSSL's codes, see "Diagnostics" of its manual page openssl-verification-options.
NOT_YET, EXPIRED = 9, 10
SELF_SIGNED, SELF_SIGNED_ROOT, NO_ISSUER, NO_FIRST_ISSUER = 18, 19, 20, 21
OTHER_HOST, OTHER_ADDRESS = 62, 64


@frozen
class Certificate:
    """What doctors need of a certificate.

    Attributes:
        subject: Whom it is for.
        issuer: Who signed it.
        begins: From when it is valid.
        ends: Until when.
        names: The hosts that it is for.
    """

    subject: str
    issuer: str
    begins: datetime
    ends: datetime
    names: tuple[str, ...] = ()

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Certificate:
        """Make one of what the ssl module tells."""
        return cls(
            subject=_name(info.get("subject", ())),
            issuer=_name(info.get("issuer", ())),
            begins=_moment(info["notBefore"]),
            ends=_moment(info["notAfter"]),
            names=tuple(value for _, value in info.get("subjectAltName", ())),
        )


def chain_of(sock: ssl.SSLSocket) -> list[Certificate]:
    """Return the certificates that a server showed, its own first, whether trusted or not.

    The ssl module gives them decoded through no public door before Python 3.13, and from there
    on only as bytes; without the private one there is just what `ssl.SSLSocket.getpeercert` has.
    """
    inner: Any = getattr(sock, "_sslobj", None)
    shown = getattr(inner, "get_unverified_chain", lambda: None)()
    infos = [one.get_info() for one in shown or ()] or [sock.getpeercert()]
    return [Certificate.from_info(info) for info in infos if info]


def culprit(
    chain: list[Certificate], code: int, now: datetime
) -> tuple[int, Certificate] | tuple[int, None]:
    """Return which certificate made the check fail with a code of OpenSSL, and its place from 1."""
    for place, one in enumerate(chain, 1):
        if (code == EXPIRED and one.ends < now) or (code == NOT_YET and one.begins > now):
            return place, one
    if not chain or code in (EXPIRED, NOT_YET):
        return 0, None
    if code in (SELF_SIGNED_ROOT, NO_ISSUER):  # the chain leads nowhere: its last one is why
        return len(chain), chain[-1]
    return 1, chain[0]


def complaint(chain: list[Certificate], error: ssl.SSLCertVerificationError, host: str) -> str:
    """Return what is wrong, with the certificate that failed."""
    code = error.verify_code
    place, one = culprit(chain, code, datetime.now(timezone.utc))
    if one is None:
        return error.verify_message
    reasons = {
        EXPIRED: f"ended on {one.ends:%Y-%m-%d}",
        NOT_YET: f"is valid from {one.begins:%Y-%m-%d} on",
        SELF_SIGNED: "is signed by itself",
        SELF_SIGNED_ROOT: "is a root that is not trusted here",
        NO_ISSUER: f"is signed by {one.issuer}, which is not trusted here",
        NO_FIRST_ISSUER: f"is signed by {one.issuer}, which is not trusted here",
        OTHER_HOST: f"is not for {host} but for {', '.join(one.names) or 'nobody'}",
        OTHER_ADDRESS: f"is not for {host} but for {', '.join(one.names) or 'nobody'}",
    }
    reason = reasons.get(code, f"is refused: {error.verify_message}")
    return f"certificate {place} of {len(chain)}, {one.subject}, {reason}"


CLOCK = "Is the clock of this machine right? If so, the service must renew its certificate."
ROOTS = (
    "Is there a proxy or virus scanner on the way that signs in the service's place, or a server"
    " of your own? Then name its root: REQUESTS_CA_BUNDLE=FILE, or Client(verify=FILE)."
)
NAMES = "Is the address the right one? Somebody else answers there."
ADVICE = {EXPIRED: CLOCK, NOT_YET: CLOCK, OTHER_HOST: NAMES, OTHER_ADDRESS: NAMES}


def advice(code: int) -> str:
    """Return what to do about a code of OpenSSL."""
    return ADVICE.get(code, ROOTS)


def _name(parts: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Return a name as people write it: its common name, else all of its parts."""
    found = {key: value for part in parts for key, value in part}
    return found.get("commonName") or ", ".join(found.values()) or "without a name"


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)
