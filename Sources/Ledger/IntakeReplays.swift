// Replays and withdrawals: each compares and sets one row, and counts only once its commit is durable as a batch's must be (design §7).

import Foundation
import Postgres

/// What became of messages that were to be taken back, on disk wherever the shard's quorum demands it.
public struct Withdrawal: Sendable {
    /// Those that this call took back.
    public let withdrawn: Set<UUID>
    /// Those that stand all the same, and are as durable as this answer: somebody has claimed or repeated them. What is in neither
    /// set was never there, or had been taken back before.
    public let standing: Set<UUID>
}

/// What was taken before with the same bytes and envelope.
public enum EarlierAccept: Sendable, Equatable {
    /// This message, which stands from now on: a client that repeats may have its 250.
    case stands(UUID)
    /// One whose client has shown that it got the 250.
    case acknowledged
}

extension IntakeLedger {
    /// The first message with these bytes and envelope, made to stand by this commit unless its client has its 250; nil when there is
    /// none (any more). Throws `NotDurable` when its commit is not durable; ask again then.
    public func replay(of tag: [UInt8]) async throws -> EarlierAccept? {
        try await committed { session in
            let first = try session.query("SELECT first FROM ledger.replay_of($1)", [.bytes(tag)]).first
                .map { try Self.earlier($0.optionalUUID(0)) }
            return (first, isReliedOn: first != nil)
        }
    }

    /// The same of several tags; those of which there is no message are left out. For what is looked for ahead of a commit: a client
    /// that repeats after midnight is known by yesterday's tag only.
    /// Throws `NotDurable` when its commit is not durable; ask again then.
    public func replays(of tags: [[UInt8]]) async throws -> [[UInt8]: EarlierAccept] {
        try await committed { session in
            var found: [[UInt8]: EarlierAccept] = [:]
            for row in try session.query(
                "SELECT t, r.first FROM unnest($1) AS n(t) CROSS JOIN LATERAL ledger.replay_of(t) r",
                [.bytesArray(tags)])
            {
                found[try row.bytes(0)] = Self.earlier(try row.optionalUUID(1))
            }
            return (found, isReliedOn: !found.isEmpty)
        }
    }

    private static func earlier(_ id: UUID?) -> EarlierAccept { id.map { .stands($0) } ?? .acknowledged }

    /// Takes back messages whose clients are about to be told 451, unless somebody relies on them.
    /// Throws `NotDurable` when its commit is not durable: it may be undone by a change of leader, so ask again; what was taken back
    /// by then is in neither set.
    public func withdraw(_ ids: [UUID]) async throws -> Withdrawal {
        try await committed { session in
            // Written before anything is looked at: a commit that waits for nobody would cover neither a withdrawal that an earlier,
            // warned commit has done, nor those that stand.
            _ = try session.query(DurableMark.statement)
            let withdrawn = try session.query(
                "SELECT ledger.withdraw($1, $2)",
                [.uuidArray(ids), .uuidArray(ids.map { AcceptedEventID.make(message: $0, recipient: -1) })]
            ).map { try $0.uuid(0) }
            let standing = try session.query("SELECT ledger.known_messages($1)", [.uuidArray(ids)])
                .map { try $0.uuid(0) }
            return (Withdrawal(withdrawn: Set(withdrawn), standing: Set(standing)), isReliedOn: true)
        }
    }

    /// Runs a transaction whose commit must be durable where its result is relied on, by the rules of a batch.
    private func committed<T: Sendable>(
        _ body: @escaping @Sendable (PostgresSession) throws -> (T, isReliedOn: Bool)
    ) async throws -> T {
        try await pool.withConnection { connection in
            try await connection.perform(deadline: commitLimit) { session in
                let ((result, hadNames), outcome) = try session.transaction { session in
                    (try body(session), try SynchronousNames.areThere(session))
                }
                guard result.isReliedOn else { return result.0 }
                if case .warned(let warning) = outcome { throw NotDurable(description: warning) }
                if demandsQuorum, try !hadNames || !SynchronousNames.areThere(session) {
                    throw NotDurable(description: SynchronousNames.none)
                }
                return result.0
            }
        }
    }
}
