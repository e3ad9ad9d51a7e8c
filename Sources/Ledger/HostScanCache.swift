// What scans of recipient hosts found, as the database keeps it for every worker, and the leases by which one of them scans.
//
// Times go out as ages and remainders by the database's own clock: no two clocks are ever compared.

import Foundation
import Postgres

/// Which row: the name that a host is asked for, one of its addresses, and a port.
public struct HostScanKey: Sendable, Hashable {
    /// Lower-case A-labels, or an address in text.
    public let host: String
    /// In text.
    public let address: String
    /// Where it is connected to.
    public let port: Int32

    /// Takes the columns.
    public init(host: String, address: String, port: Int32) {
        (self.host, self.address, self.port) = (host, address, port)
    }
}

/// What was found, and with what it was seen.
public struct HostScanResult: Sendable, Hashable {
    /// Canonical JSON, at most 16 KB.
    public let facts: [UInt8]
    /// SHA-256 of leaf certificates, at most 16.
    public let certificates: [[UInt8]]
    /// SHA-256 of the set of TLSA records; nil: none were in force.
    public let tlsa: [UInt8]?

    /// Takes the columns.
    public init(facts: [UInt8], certificates: [[UInt8]], tlsa: [UInt8]?) {
        (self.facts, self.certificates, self.tlsa) = (facts, certificates, tlsa)
    }
}

/// One row as it is now.
public struct HostScanRow: Sendable, Hashable {
    /// Counts up with every result and every invalidation.
    public let version: Int64
    /// The last result; nil: the first scan is still under way.
    public let result: HostScanResult?
    /// When it was made; nil with `result`.
    public let judgedAt: Date?
    /// How long ago that is, in seconds.
    public let age: Double
    /// How many seconds it holds yet; negative: no more.
    public let freshFor: Double
    /// How many seconds ago a delivery saw something else; nil: none has.
    public let invalidatedAgo: Double?
    /// For how many seconds somebody has the lease yet; nil or negative: nobody has.
    public let leasedFor: Double?
}

/// The scans, on the control shard. Reading is for workers and the api, the rest for role `zegel_worker`.
public struct HostScanCache: Sendable {
    /// The keys, numbered: what the statements below join with.
    private static let keys =
        "unnest($1::text[], $2::text[], $3::int4[]) WITH ORDINALITY AS n(host, address, port, no)"
    private static let isOfKey = "s.host = n.host AND s.address = n.address::inet AND s.port = n.port"

    /// What is there of these sites?
    private static let read = """
        SELECT n.no::int4, s.version, s.facts, s.certificates, s.tlsa, s.judged_at,
            coalesce(extract(epoch FROM clock_timestamp() - s.judged_at)::float8, 0),
            coalesce(extract(epoch FROM s.fresh_until - clock_timestamp())::float8, 0),
            extract(epoch FROM clock_timestamp() - s.invalidated_at)::float8,
            extract(epoch FROM s.lease_until - clock_timestamp())::float8
        FROM \(keys) JOIN ledger.host_scan s ON \(isOfKey)
        """

    /// Whose lease is mine now? Only where nobody else has it, and nothing has come in since what the claimant knows. In one
    /// order, so that no two workers wait for each other.
    private static let claim = """
        WITH n AS (
            SELECT host, address::inet, port, known, no FROM
            unnest($1::text[], $2::text[], $3::int4[], $4::int8[]) WITH ORDINALITY AS n(host, address, port, known, no)
        ), claimed AS (
            INSERT INTO ledger.host_scan AS s (host, address, port, version, scanner, lease_until)
            SELECT host, address, port, known, $5, clock_timestamp() + make_interval(secs => $6) FROM n
            ORDER BY host, address, port
            ON CONFLICT (host, address, port) DO UPDATE
            SET scanner = excluded.scanner, lease_until = excluded.lease_until
            WHERE s.version = excluded.version AND (s.lease_until IS NULL OR s.lease_until <= clock_timestamp())
            RETURNING s.host, s.address, s.port
        )
        SELECT n.no::int4 FROM claimed JOIN n USING (host, address, port)
        """

    /// Which of my leases are still mine? Those go on.
    private static let renew = """
        UPDATE ledger.host_scan s SET lease_until = clock_timestamp() + make_interval(secs => $5)
        FROM \(keys) WHERE \(isOfKey) AND s.scanner = $4 RETURNING n.no::int4
        """

    /// A result, by whoever has the lease, which ends with it.
    private static let keep = """
        UPDATE ledger.host_scan SET version = version + 1, facts = $5, certificates = $6, tlsa = $7,
            judged_at = clock_timestamp(), fresh_until = clock_timestamp() + make_interval(secs => $8),
            invalidated_at = NULL, scanner = NULL, lease_until = NULL
        WHERE host = $1 AND address = $2::inet AND port = $3 AND scanner = $4
        RETURNING version, judged_at
        """

    /// Results that a delivery has seen to be out of date, as long as they are those that it knew. The certificate that it saw is
    /// noted, so that hosts which show several in turn come to rest.
    private static let invalidate = """
        UPDATE ledger.host_scan s SET version = s.version + 1, fresh_until = clock_timestamp(),
            invalidated_at = clock_timestamp(),
            certificates = substring(n.seen || s.certificates FROM 1 FOR 512)
        FROM unnest($1::text[], $2::text[], $3::int4[], $4::int8[], $5::bytea[]) AS n(host, address, port, known, seen)
        WHERE \(isOfKey) AND s.version = n.known AND s.facts IS NOT NULL
        """

    /// Leases given back, without a result.
    private static let release = """
        UPDATE ledger.host_scan s SET scanner = NULL, lease_until = NULL
        FROM \(keys) WHERE \(isOfKey) AND s.scanner = $4
        """

    private let pool: PostgresPool

    /// Takes a pool on the control shard.
    public init(pool: PostgresPool) { self.pool = pool }

    /// The rows that there are of these sites, in one query.
    ///
    /// - Throws: `PostgresError` when the database does not answer.
    public func rows(_ keys: [HostScanKey]) async throws -> [HostScanKey: HostScanRow] {
        let found = try await query(Self.read, Self.columns(keys))
        var rows: [HostScanKey: HostScanRow] = [:]
        for row in found {
            let judgedAt = try row.optionalTimestamp(5)
            let certificates = try row.optionalBytes(3) ?? []
            rows[keys[Int(try row.int4(0)) - 1]] = HostScanRow(
                version: try row.int8(1),
                result: try row.optionalBytes(2).map { facts in
                    HostScanResult(
                        facts: facts,
                        certificates: stride(from: 0, to: certificates.count, by: 32).map {
                            Array(certificates[$0..<($0 + 32)])
                        }, tlsa: try row.optionalBytes(4))
                },
                judgedAt: judgedAt, age: try row.double(6), freshFor: try row.double(7),
                invalidatedAgo: try row.optionalDouble(8), leasedFor: try row.optionalDouble(9))
        }
        return rows
    }

    /// Takes the leases that can be had, each for a site of which the caller knows this version (0: none).
    ///
    /// - Returns: the sites that `scanner` may scan now.
    /// - Throws: `PostgresError` when the database does not answer.
    public func claim(
        _ known: [HostScanKey: Int64], scanner: UUID, lease: Duration
    ) async throws -> Set<HostScanKey> {
        let keys = Array(known.keys)
        let rows = try await query(
            Self.claim,
            Self.columns(keys) + [
                .int8Array(keys.map { known[$0] ?? 0 }), .uuid(scanner), .double(lease.inSeconds),
            ])
        return Set(try rows.map { keys[Int(try $0.int4(0)) - 1] })
    }

    /// Goes on with leases.
    ///
    /// - Returns: those that are the scanner's still.
    /// - Throws: `PostgresError` when the database does not answer.
    public func renew(_ keys: [HostScanKey], scanner: UUID, lease: Duration) async throws -> Set<HostScanKey>
    {
        let rows = try await query(
            Self.renew, Self.columns(keys) + [.uuid(scanner), .double(lease.inSeconds)])
        return Set(try rows.map { keys[Int(try $0.int4(0)) - 1] })
    }

    /// Keeps a result and ends the lease.
    ///
    /// - Parameter freshFor: how long it holds.
    /// - Returns: the row's version and when it was made; nil: the lease was lost, and somebody else keeps the result.
    /// - Throws: `PostgresError` when the database does not take it.
    public func keep(
        _ result: HostScanResult, of key: HostScanKey, freshFor: Duration, scanner: UUID
    ) async throws -> (version: Int64, judgedAt: Date)? {
        try await query(
            Self.keep,
            [
                .text(key.host), .text(key.address), .int4(key.port), .uuid(scanner), .bytes(result.facts),
                .bytes(Array(result.certificates.joined())), .optional(result.tlsa),
                .double(freshFor.inSeconds),
            ]
        ).first.map { (try $0.int8(0), try $0.timestamp(1)) }
    }

    /// Ends the time of results that a delivery has seen to be out of date; one that came in since stays.
    ///
    /// - Parameter seen: the version that it knew, and the digest of the leaf certificate that it saw.
    /// - Throws: `PostgresError` when the database does not take it.
    public func invalidate(_ seen: [HostScanKey: (version: Int64, certificate: [UInt8])]) async throws {
        let keys = seen.keys.sorted {
            ($0.host, $0.address, $0.port) < ($1.host, $1.address, $1.port)
        }
        _ = try await query(
            Self.invalidate,
            Self.columns(keys) + [
                .int8Array(keys.map { seen[$0]?.version ?? 0 }),
                .bytesArray(keys.map { seen[$0]?.certificate }),
            ])
    }

    /// Gives leases back.
    ///
    /// - Throws: `PostgresError` when the database does not take it.
    public func release(_ keys: [HostScanKey], scanner: UUID) async throws {
        _ = try await query(Self.release, Self.columns(keys) + [.uuid(scanner)])
    }

    private static func columns(_ keys: [HostScanKey]) -> [PostgresValue] {
        [
            .textArray(keys.map(\.host)), .textArray(keys.map(\.address)),
            .int4Array(keys.map(\.port)),
        ]
    }

    private func query(_ sql: String, _ parameters: [PostgresValue]) async throws -> PostgresRows {
        try await pool.withConnection { connection in
            try await connection.perform { try $0.query(sql, parameters) }
        }
    }
}
