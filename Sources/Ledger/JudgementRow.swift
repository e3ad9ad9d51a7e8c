// Judgements that deliveries and refusals rest on, and their certificates: each stored once, by its digest.

import Foundation
import Postgres

/// A judgement as it is stored, with the certificates that it names.
public struct JudgementRow: Sendable, Hashable {
    /// SHA-256 of `body`.
    public let digest: [UInt8]
    /// When it was made.
    public let madeAt: Date
    /// Canonical JSON.
    public let body: [UInt8]
    /// DER by SHA-256.
    public let certificates: [[UInt8]: [UInt8]]

    /// A judgement to be stored.
    public init(digest: [UInt8], madeAt: Date, body: [UInt8], certificates: [[UInt8]: [UInt8]]) {
        self.digest = digest
        self.madeAt = madeAt
        self.body = body
        self.certificates = certificates
    }

    /// Stores what is not there yet, in one order, so that no two workers wait for each other.
    static func insert(_ rows: [JudgementRow]) -> [PostgresStatement] {
        let byDigest = Dictionary(rows.map { ($0.digest, $0) }, uniquingKeysWith: { one, _ in one })
        let judgements = byDigest.values.sorted { $0.digest.lexicographicallyPrecedes($1.digest) }
        if judgements.isEmpty { return [] }
        let all = Dictionary(
            judgements.flatMap { $0.certificates.map { ($0.key, $0.value) } },
            uniquingKeysWith: { one, _ in one })
        let certificates = all.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        let links = judgements.flatMap { row in row.certificates.keys.map { (row.digest, $0) } }
        var statements = [
            PostgresStatement(
                """
                INSERT INTO ledger.judgement (digest, made_at, body)
                SELECT * FROM unnest($1::bytea[], $2::timestamptz[], $3::bytea[]) ON CONFLICT DO NOTHING
                """,
                [
                    .bytesArray(judgements.map(\.digest)), .timestampArray(judgements.map(\.madeAt)),
                    .bytesArray(judgements.map(\.body)),
                ])
        ]
        if links.isEmpty { return statements }
        statements.append(
            PostgresStatement(
                """
                INSERT INTO ledger.certificate (digest, der)
                SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING
                """, [.bytesArray(certificates.map(\.key)), .bytesArray(certificates.map(\.value))]))
        statements.append(
            PostgresStatement(
                """
                INSERT INTO ledger.judgement_certificate (judgement, certificate)
                SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING
                """, [.bytesArray(links.map(\.0)), .bytesArray(links.map(\.1))]))
        return statements
    }
}

/// What is stored of some judgements.
public struct StoredEvidence: Sendable {
    /// Their canonical JSON.
    public let judgements: [[UInt8]]
    /// DER of the certificates that they name.
    public let certificates: [[UInt8]]
}

extension EventLedger {
    /// The judgements of these digests, as far as they are there, and their certificates.
    public func evidence(_ digests: [[UInt8]]) async throws -> StoredEvidence {
        try await members.read(.anyone, floor: floor) { session in
            let parts = try session.pipeline([
                PostgresStatement(
                    "SELECT body FROM ledger.judgement WHERE digest = ANY ($1) ORDER BY made_at, digest",
                    [.bytesArray(digests)]),
                PostgresStatement(
                    """
                    SELECT c.der FROM ledger.certificate c WHERE c.digest IN (
                        SELECT certificate FROM ledger.judgement_certificate WHERE judgement = ANY ($1))
                    ORDER BY c.digest
                    """, [.bytesArray(digests)]),
            ])
            return StoredEvidence(
                judgements: try parts[0].map { try $0.bytes(0) },
                certificates: try parts[1].map { try $0.bytes(0) })
        }.value
    }
}
