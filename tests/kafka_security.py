"""A broker with keys, users and permissions for tests, and what clients of each kind are told to reach it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from spark_ext.broker import Broker

__all__ = ["READER", "Secured", "permit", "secured_broker"]

READER = "reader"
LISTENERS = {"LOGIN": "SASL_SSL", "KEYS": "SSL", "MISNAMED": "SASL_SSL"}
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
LISTENER_OF = {"scram": "LOGIN", "plain": "LOGIN", "keys": "KEYS"}
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj"]


@dataclass(frozen=True)
class Secured:
    """The broker, its keys, and its secrets by name: "scram", "plain", "keys", and "wrong", which opens nothing."""

    broker: Broker
    folder: Path
    secrets: Mapping[str, str]

    def file(self, secret: str) -> str:
        """A reference to the file of a secret."""
        return f"${{file:{self.folder / secret}}}"

    def servers(self, way: str) -> str:
        """Where a client comes in by a way; "misnamed" is where the certificate has another name."""
        return self.broker.servers(LISTENER_OF.get(way, "MISNAMED"))

    def options(self, way: str, reference: str, *, engine: str = "millrace", authority: str = "authority") -> dict[str, str]:
        """Options of `kafka.read`, the secret by a reference."""
        given = self._javas(way, reference) if engine == "spark" else self._librdkafkas(way, reference)
        location = "truststore" if engine == "spark" else "ca"
        return {f"kafka.{name}": text for name, text in {**given, f"ssl.{location}.location": self._key(f"{authority}.pem")}.items()}

    def _librdkafkas(self, way: str, reference: str) -> dict[str, str]:
        if way == "keys":
            keys = {"ssl.certificate.location": self._key("reader.pem"), "ssl.key.location": self._key("reader.locked.key")}
            return {"security.protocol": "SSL", **keys, "ssl.key.password": reference}
        mechanism = "PLAIN" if way == "plain" else "SCRAM-SHA-256"
        return {"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.username": READER, "sasl.password": reference}

    def _javas(self, way: str, reference: str) -> dict[str, str]:
        trust = {"ssl.truststore.type": "PEM"}
        if way == "keys":
            keys = {"ssl.keystore.location": self._key("reader.p12"), "ssl.keystore.type": "PKCS12"}
            return {"security.protocol": "SSL", **keys, "ssl.keystore.password": reference, "ssl.key.password": reference, **trust}
        mechanism, module = ("PLAIN", PLAIN) if way == "plain" else ("SCRAM-SHA-256", SCRAM)
        jaas = f'{module} required username="{READER}" password="{reference}";'
        return {"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.jaas.config": jaas, **trust}

    def _key(self, name: str) -> str:
        return str(self.folder / name)


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """Run a broker that lets `READER` in by SCRAM, PLAIN and a certificate; its plain listener may do everything."""
    made = {name: f"s-{secrets.token_hex(12)}" for name in (*LISTENER_OF, "wrong")}
    for name, secret in made.items():
        (folder / name).write_text(secret, encoding="utf-8")
    _make_keys(folder, made["keys"])
    with Broker(listeners=LISTENERS, properties=_properties(folder, made["plain"])) as broker:
        scram = UserScramCredentialUpsertion(READER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), made["scram"].encode())
        client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        client.alter_user_scram_credentials([scram])[READER].result(30)
        yield Secured(broker, folder, made)


def permit(broker: Broker, kind: ResourceType, name: str, operation: AclOperation) -> None:
    """Let `READER` do something."""
    asked = AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{READER}", "*", operation, AclPermissionType.ALLOW)
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    client.create_acls([asked])[asked].result(30)


def _properties(folder: Path, password: str) -> dict[str, str]:
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # whoever comes by the plain listener
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]*).*$/$1/",
        "listener.name.keys.ssl.client.auth": "required",
        "listener.name.login.plain.sasl.jaas.config": f'{PLAIN} required user_{READER}="{password}";',
    }
    for name, protocol in LISTENERS.items():
        prefix = f"listener.name.{name.lower()}"
        pair = "misnamed" if name == "MISNAMED" else "broker"
        for store, file in (("keystore", f"{pair}.both.pem"), ("truststore", "authority.pem")):
            properties |= {f"{prefix}.ssl.{store}.type": "PEM", f"{prefix}.ssl.{store}.location": str(folder / file)}
        if protocol == "SASL_SSL":
            properties[f"{prefix}.sasl.enabled.mechanisms"] = "SCRAM-SHA-256,PLAIN" if name == "LOGIN" else "SCRAM-SHA-256"
            properties[f"{prefix}.scram-sha-256.sasl.jaas.config"] = f"{SCRAM} required;"
    return properties


def _make_keys(folder: Path, password: str) -> None:
    """Make two authorities, and what the first one signs: two for brokers, one for `READER`, whose key has a password."""
    for authority in ("authority", "stranger"):
        own = [*NEW_KEY, f"/CN={authority}", "-keyout", f"{authority}.key"]
        _openssl(folder, "req", "-x509", "-days", "2", *own, "-out", f"{authority}.pem")
    for name, address in (("broker", "IP:127.0.0.1"), ("misnamed", "DNS:broker.example"), (READER, "DNS:reader.example")):
        (folder / f"{name}.ext").write_text(f"subjectAltName={address}\n", encoding="utf-8")
        _openssl(folder, "req", *NEW_KEY, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext"]
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
        both = (folder / f"{name}.key").read_text(encoding="utf-8") + (folder / f"{name}.pem").read_text(encoding="utf-8")
        (folder / f"{name}.both.pem").write_text(both, encoding="utf-8")
    locked = ["-passout", f"pass:{password}"]
    _openssl(folder, "pkcs8", "-topk8", "-in", f"{READER}.key", *locked, "-out", f"{READER}.locked.key")
    _openssl(folder, "pkcs12", "-export", "-in", f"{READER}.both.pem", *locked, "-out", f"{READER}.p12")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
