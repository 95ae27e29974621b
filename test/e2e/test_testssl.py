"""What testssl.sh says of our TLS. It starts some thousands of processes, so it has a file of its own, which
runs beside others."""

import json
import os
import re
import subprocess

import pytest
from backend import Backend
from gatepost import Gatepost
from tls import Authority

MX = "mx.example.net"
SECONDS_MAX = 1500
HARMLESS = ("OK", "INFO", "LOW", "DEBUG")
# What a certificate of a private authority, without OCSP and CAA records, is blamed for.
OF_THE_CERTIFICATE = re.compile(r"cert|OCSP|DNS_CAA|grade|overall", re.IGNORECASE)
# What it misses in the openssl beside it: the engine for GOST, a package that not every machine has.
OF_THE_TOOL = ("engine_problem",)


def secured(pair, mode, **more):
    return {"name": mode, "bind": ["127.0.0.1:0"], "proxy": "off",
            "tls": {"mode": mode, "certificate": str(pair.certificate), "key": str(pair.key), **more}}


@pytest.fixture(scope="module")
def gatepost(tmp_path_factory):
    """Certificates for two names, with keys of both kinds."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    mx = authority.make("mx", [MX])
    others = [authority.make("mx-rsa", [MX], kind="rsa"),
              *(authority.make(f"org-{kind}", ["mail.example.org"], kind=kind) for kind in ("ec", "rsa"))]
    many = [{"certificate": str(pair.certificate), "key": str(pair.key)} for pair in others]
    config = {"listeners": [secured(mx, "starttls"), secured(mx, "implicit", certificates=many)],
              "limits": {"connections_per_client": 1000, "handshakes": 20},
              "timeouts": {"tls_handshake": "60s"}}
    with Backend() as backend, Gatepost(config, backend=backend) as running:
        yield running


def findings_of(tmp_path, port, *options):
    """What testssl.sh found, as dicts."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        ["testssl", "--quiet", "--warnings", "batch", "--color", "0", "--ip", "127.0.0.1", "--nodns",
         "none", "--jsonfile", str(report), *options, f"{MX}:{port}"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS_MAX, check=False)
    assert report.exists(), (done.returncode, done.stdout)
    return {finding["id"]: finding for finding in json.loads(report.read_text())}


def above_low(findings):
    return [finding for finding in findings.values() if finding["severity"] not in HARMLESS
            and finding["id"] not in OF_THE_TOOL and not OF_THE_CERTIFICATE.search(finding["id"])]


def test_testssl(gatepost, tmp_path):
    """Protocols, ciphers and known vulnerabilities: nothing above LOW."""
    findings = findings_of(tmp_path, gatepost.port("implicit"), "-p", "-s", "-U")
    assert above_low(findings) == []
    for version in ("TLS1_2", "TLS1_3"):
        assert findings[version]["finding"].startswith("offered")
    for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        assert findings[version]["finding"] == "not offered"
    for name in ("heartbleed", "secure_client_renego", "ROBOT", "DROWN", "LUCKY13"):
        assert findings[name]["severity"] == "OK"


@pytest.mark.skipif(not os.environ.get("TESTSSL"), reason="takes minutes: TESTSSL=1 wants it")
@pytest.mark.parametrize("name, options", [("implicit", []), ("starttls", ["-t", "smtp"])])
def test_testssl_in_full(gatepost, tmp_path, name, options):
    """All that it looks at, also by way of STARTTLS."""
    findings = findings_of(tmp_path, gatepost.port(name), *options)
    assert above_low(findings) == []
    assert len(findings) > 80
