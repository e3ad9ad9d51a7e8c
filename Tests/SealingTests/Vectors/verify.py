#!/usr/bin/env python3
"""Opens the test vectors of docs/sealed-format.md with Python's `cryptography` (46 or newer, for ML-KEM).

It shares no code with the Swift implementation: X-Wing and HPKE's key schedule are put together here from ML-KEM-768,
X25519, SHA-3 and HMAC as draft-connolly-cfrg-xwing-kem and RFC 9180 section 5.1 say. Exit status 0: all hold.
"""
import hashlib
import hmac
import json
import struct
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

RAW = bytes.fromhex
PURPOSE = {"content": 1, "metadata": 2}


def text(value):
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


def uuid(value):
    return RAW(value.replace("-", ""))


def expand(key, info, length):
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)


def extract(salt, key):
    return hmac.new(salt or bytes(32), key, hashlib.sha256).digest()


def context(label, tenant, message, purpose, more=b""):
    return label.encode() + b"\0" + text(tenant) + uuid(message) + bytes([PURPOSE[purpose]]) + more


def xwing_decapsulate(seed, encapsulated):
    expanded = hashlib.shake_256(seed).digest(96)
    ml_kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    ct_m, ct_x = encapsulated[:1088], encapsulated[1088:]
    ss_m = ml_kem.decapsulate(ct_m)
    ss_x = curve.exchange(x25519.X25519PublicKey.from_public_bytes(ct_x))
    pk_x = curve.public_key().public_bytes_raw()
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + b"\\.//^\\").digest()


def hpke_open(shared, info, aad, ciphertext):
    """RFC 9180 base mode, KEM 0x647a, HKDF-SHA256, AES-256-GCM, first message."""
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 1, 2)

    def labeled_extract(salt, label, ikm):
        return extract(salt, b"HPKE-v1" + suite + label + ikm)

    def labeled_expand(prk, label, more, length):
        return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + more, length)

    schedule = b"\0" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
    secret = labeled_extract(shared, b"secret", b"")
    key = labeled_expand(secret, b"key", schedule, 32)
    nonce = labeled_expand(secret, b"base_nonce", schedule, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, aad)


def read_variable(raw, at):
    length = struct.unpack(">I", raw[at:at + 4])[0]
    return raw[at + 4:at + 4 + length], at + 4 + length


def open_batch(batch):
    raw = RAW(batch["wrapped"])
    assert raw[0] == 1 and struct.unpack(">H", raw[1:3])[0] == 1
    region, at = read_variable(raw, 3)
    key_id, at = raw[at:at + 16], at + 16
    algorithm, at = read_variable(raw, at)
    encapsulated, at = read_variable(raw, at)
    ciphertext, at = read_variable(raw, at)
    assert at == len(raw) and region.decode() == batch["region"] and key_id.hex() == batch["keyID"]
    named = b"zegel/1 region key id\0" + text(algorithm) + RAW(batch["publicKey"])
    assert hashlib.sha256(named).digest()[:16] == key_id
    info = (b"zegel/1 batch key\0" + text(batch["tenant"]) + bytes([PURPOSE[batch["purpose"]]])
            + struct.pack(">i", batch["epoch"]))
    aad = uuid(batch["id"]) + text(region) + key_id + text(algorithm)
    key = hpke_open(xwing_decapsulate(RAW(batch["privateSeed"]), encapsulated), info, aad, ciphertext)
    assert key.hex() == batch["key"]
    return key


def open_message_key(batch, batch_key, message):
    chain = batch_key
    info = b"zegel/1 ratchet\0" + uuid(batch["id"])
    for _ in range(message["index"]):
        chain = expand(chain, info, 64)[32:]
    assert chain.hex() == message["chainKey"]
    derived = expand(chain, info, 64)
    assert derived[32:].hex() == message["nextChainKey"] and derived[:32].hex() == message["wrappingKey"]
    raw = RAW(message["wrapped"])
    assert len(raw) == 94
    scope = (batch["tenant"], message["id"], message["purpose"])
    aad = context("zegel/1 message key wrapping", *scope,
                  uuid(batch["id"]) + struct.pack(">i", message["index"]) + raw[:34])
    key = AESGCM(derived[:32]).decrypt(raw[34:46], raw[46:], aad)
    assert key.hex() == message["messageKey"]
    working = expand(key, context("zegel/1 message key", *scope), 64)
    assert working[32:] == raw[2:34] and working[:32].hex() == message["workingKey"]
    return working[:32], scope


def main(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    keys = [open_message_key(batch, open_batch(batch), message)
            for batch, message in zip(vectors["batches"], vectors["messages"])]

    working, scope = keys[0]
    content = vectors["content"]
    plain = b""
    for number, frame in enumerate(map(RAW, content["frames"])):
        last = number == len(content["frames"]) - 1
        header = frame[:71 if number == 0 else 7]
        assert header[:7] == bytes([1, 1, 1 if last else 0]) + struct.pack(">I", number)
        if number == 0:
            derived = expand(working, context("zegel/1 frame key", *scope, bytes([1, 1]) + header[7:39]), 64)
            assert derived[32:] == header[39:71]
        nonce = bytes(7) + struct.pack(">I", number) + bytes([1 if last else 0])
        part = AESGCM(derived[:32]).decrypt(nonce, frame[len(header):], context("zegel/1 frame", *scope, header))
        assert part.hex() == content["parts"][number]
        plain += part
    digest = hashlib.sha256(plain).digest()
    assert digest.hex() == content["sha256"]
    said = context("zegel/1 content digest", *scope, digest)
    assert hmac.new(working, said, hashlib.sha256).hexdigest() == content["digest"]

    working, scope = keys[1]
    field = vectors["field"]
    sealed = RAW(field["sealed"])
    aad = context("zegel/1 field", *scope, sealed[:2] + text(field["name"]))
    assert AESGCM(working).decrypt(sealed[2:14], sealed[14:], aad).hex() == field["plaintext"]

    tag = vectors["replayTag"]
    said = b"zegel/1 replay tag\0" + text(RAW(tag["envelope"])) + digest
    assert hmac.new(RAW(tag["dailyKey"]), said, hashlib.sha256).hexdigest() == tag["tag"]

    signed = RAW(vectors["keySet"]["signed"])
    root = ed25519.Ed25519PublicKey.from_public_bytes(RAW(vectors["keySet"]["rootPublic"]))
    root.verify(signed[-64:], b"zegel/1 region key set\0" + signed[:-64])
    print("all vectors hold")


if __name__ == "__main__":
    main(sys.argv[1])
