// The edge's side of a shard: one transaction for many messages, and what to do when its outcome is not known (design §7).
//
// `commit` is one round trip: BEGIN, one COPY a table, COMMIT. A COPY cannot tolerate conflicts, so a repeated message fails
// the batch with 23505 on `replay`; who called splits the batch until that message stands alone and asks `replay(of:)`.

import Foundation
import Postgres

/// How a group commit ended.
public enum IntakeOutcome: Sendable {
    /// On disk wherever the shard's quorum demands it: every message may be answered 250.
    case durable
    /// Committed on the leader, but the server warned that its peers have not (all of) it.
    case notDurable(String)
    /// The connection broke after the commit was sent: nobody knows.
    case inDoubt(PostgresError)
    /// Nothing was committed, and the data is the cause: one message of the batch is at fault.
    case atFault(PostgresError)
    /// Nothing was committed, and the data is not the cause.
    case unavailable(PostgresError)
}

/// What an edge may do with one shard, as role `zegel_edge`.
public struct IntakeLedger: Sendable {
    /// The shard's name in events and cursors.
    public let shard: String
    let pool: PostgresPool
    let demandsQuorum: Bool
    let commitLimit: Duration

    /// - Parameters:
    ///   - demandsQuorum: several regions: a commit with no synchronous standby named is not durable.
    ///   - commitLimit: how long one commit, or one question about one, may take; then it is cancelled, and its outcome is what the server
    ///     makes of that.
    public init(
        shard: String, pool: PostgresPool, demandsQuorum: Bool = false, commitLimit: Duration = .seconds(60)
    ) {
        self.shard = shard
        self.pool = pool
        self.demandsQuorum = demandsQuorum
        self.commitLimit = commitLimit
    }

    /// Commits all of a batch, or nothing.
    public func commit(_ batch: IntakeBatch) async -> IntakeOutcome {
        if batch.isEmpty { return .durable }
        let steps = IntakeScript.steps(for: batch)
        do {
            return try await pool.withConnection { connection in
                try await connection.perform(deadline: commitLimit) { session in
                    try outcome(of: steps, session)
                }
            }
        } catch let error as PostgresError {
            return Self.classify(error)
        } catch {
            return .unavailable(PostgresError(.cancelled, "\(error)"))
        }
    }

    private func outcome(of steps: [PostgresScriptStep], _ session: PostgresSession) throws -> IntakeOutcome {
        let result = try session.script(steps)
        if case .warned(let warning) = result.commitOutcome { return .notDurable(warning) }
        if demandsQuorum {
            if (try? result.results.dropLast().last?.first?.text(0))?.isEmpty ?? true {
                return .notDurable(SynchronousNames.none)
            }
            // A batch that is committed is in doubt, not failed, where this cannot be read.
            guard (try? SynchronousNames.areThere(session)) == true else {
                return .notDurable(SynchronousNames.none)
            }
        }
        return .durable
    }

    /// Whose fault an error of a batch is. A late cancel (57014) hits the next batch: never the data's fault.
    static func classify(_ error: PostgresError) -> IntakeOutcome {
        if error.inDoubt { return .inDoubt(error) }
        guard let state = error.sqlState else { return .unavailable(error) }
        switch state.prefix(2) {
        case "22", "23", "54", "ZG": return .atFault(error)
        default: return .unavailable(error)
        }
    }

    /// Whether an error says that these bytes were taken before.
    public static func isReplay(_ error: PostgresError) -> Bool {
        error.sqlState == "23505" && error.table == "replay"
    }

    /// Whether an error says that a message's id is there already: an earlier commit in doubt did happen.
    public static func isRepeatedID(_ error: PostgresError) -> Bool {
        error.sqlState == "23505" && error.table != "replay"
    }

    /// Submits the same rows again after a commit in doubt: what is there stays, what is not is added, in one transaction whose
    /// own durability covers the earlier one's (a later position in the log implies the earlier).
    public func resubmit(_ batch: IntakeBatch) async -> IntakeOutcome {
        do {
            // One connection, and so one server: what a former leader shows is not in the log of the next one.
            return try await pool.withConnection { connection in
                try await connection.perform(deadline: commitLimit) { session in
                    let known = try Self.ids(
                        Self.knownMessages, [.uuidArray(batch.messages.map(\.id))], session)
                    let keys = try Self.ids(
                        Self.knownKeys, [.uuidArray(batch.batchKeys.map(\.id))], session)
                    var missing = batch
                    missing.messages.removeAll { known.contains($0.id) }
                    missing.batchKeys.removeAll { keys.contains($0.id) }
                    // A transaction that writes something, so that its commit waits for the quorum.
                    return try outcome(of: IntakeScript.steps(for: missing, marker: true), session)
                }
            }
        } catch let error as PostgresError {
            return Self.classify(error)
        } catch {
            return .unavailable(PostgresError(.cancelled, "\(error)"))
        }
    }

    /// Which of these messages are there and stand.
    public func known(_ ids: [UUID]) async throws -> Set<UUID> {
        try await pool.withConnection { connection in
            try await connection.perform(deadline: commitLimit) { session in
                try Self.ids(Self.knownMessages, [.uuidArray(ids)], session)
            }
        }
    }

    /// Which of these batch keys are there.
    public func knownBatchKeys(_ ids: Set<UUID>) async throws -> Set<UUID> {
        try await pool.withConnection { connection in
            try await connection.perform(deadline: commitLimit) { session in
                try Self.ids(Self.knownKeys, [.uuidArray(Array(ids))], session)
            }
        }
    }

    static let knownKeys = "SELECT ledger.known_batch_keys($1)"
    static let knownMessages = "SELECT ledger.known_messages($1)"

    /// Frames of a message whose client broke off: gone now rather than with the sweeper.
    public func abandonUpload(_ id: UUID) async throws {
        _ = try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.query("SELECT ledger.abandon_upload($1)", [.uuid(id)])
            }
        }
    }

    /// Wakes the workers: its own transaction, which waits for nobody (a NOTIFY holds a global lock until its commit ends).
    /// Coalescing is the caller's.
    public func notifyReady() async throws {
        _ = try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.execute(
                    "BEGIN; SET LOCAL synchronous_commit = off; NOTIFY \(LedgerChannel.ready); COMMIT")
            }
        }
    }

    /// This shard's incarnation; the first caller on a new timeline writes it.
    public func currentIncarnation() async throws -> UUID {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                guard let row = try session.query("SELECT ledger.current_incarnation()").first else {
                    throw PostgresError(.protocolViolation, "no incarnation")
                }
                return try row.uuid(0)
            }
        }
    }

    private static func ids(
        _ sql: String, _ parameters: [PostgresValue], _ session: PostgresSession
    ) throws -> Set<UUID> {
        Set(try session.query(sql, parameters).map { try $0.uuid(0) })
    }
}

/// Names of NOTIFY channels.
enum LedgerChannel {
    /// Deliveries became ready.
    static let ready = "zegel_ready"
}
