"""Where this system keeps the certificates that it trusts."""

from __future__ import annotations

import os
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """A file and a folder of certificates, empty where there is none."""

    file: str
    folder: str


def system_certificates() -> Certificates | None:
    """Those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else of the system; None where it has a store of its own."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folder:
        if sys.platform in ("win32", "darwin"):
            return None
        paths = ssl.get_default_verify_paths()
        file = next((name for name in (paths.openssl_cafile, *_BUNDLES) if Path(name).is_file()), None)
        folder = paths.openssl_capath if Path(paths.openssl_capath).is_dir() else None
    return Certificates(file or "", folder or "")
