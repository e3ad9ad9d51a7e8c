// Finds a message by its id, whichever shard has it: also one whose 250 was read a moment ago (read your writes).

import Foundation
import Ledger

/// A message and where it was found.
struct FoundMessage: Sendable {
    var record: MessageRecord
    /// Its shard, not to be read as it was before.
    var ledger: EventLedger
    /// What the client has seen now.
    var seen: ReadPosition

    var headers: [(String, String)] { [(ReadPosition.header, seen.text)] }
}

/// Asks all shards at once: members first, and their leaders for what is too new to be missed.
struct MessageFinder: Sendable {
    /// An id that was made this long ago or less may be of a message that no member has replayed yet.
    static let newness: TimeInterval = 600
    /// How long a shard without a leader is waited for.
    static let patience = Duration.seconds(2)
    private static let pause = Duration.milliseconds(100)

    let ledgers: [EventLedger]

    /// The message; nil when there is none of that id, or it is another tenant's.
    /// - Parameter floor: no member is believed that has not come so far.
    /// - Throws: `ShardUnreadable` where a shard that cannot be asked might have it; `UnknownIncarnation`.
    func find(_ id: UUID, tenant: String?, floor: ReadPosition) async throws -> FoundMessage? {
        let end = ContinuousClock.now + Self.patience
        while true {
            var (found, silent) = try await ask(id, tenant, floor, surely: false)
            if let found { return found }
            // Whoever was answered 250 for it was answered after its leader had it.
            if Self.isNew(id, now: Date()) {
                (found, silent) = try await ask(id, tenant, floor, surely: true)
            }
            if let found { return found }
            guard let silent else { return nil }
            guard ContinuousClock.now + Self.pause < end else { throw silent }
            try await Task.sleep(for: Self.pause)
        }
    }

    /// Whether an id (UUIDv7, RFC 9562 §5.7) was made lately, on a clock not far ahead.
    static func isNew(_ id: UUID, now: Date) -> Bool {
        let bytes = ShardVectorText.octets(id)
        guard bytes[6] >> 4 == 7 else { return false }
        let made = Double(ShardVectorText.number(bytes[0..<6])) / 1000
        return abs(now.timeIntervalSince1970 - made) <= newness
    }

    private func ask(
        _ id: UUID, _ tenant: String?, _ floor: ReadPosition, surely: Bool
    ) async throws -> (FoundMessage?, ShardUnreadable?) {
        try await withThrowingTaskGroup(of: Result<FoundMessage?, ShardUnreadable>.self) { group in
            for ledger in ledgers {
                group.addTask {
                    do {
                        let reading = try await ledger.notBefore(floor.positions[ledger.shard])
                            .message(id, tenant: tenant, surely: surely)
                        guard let record = reading.value else { return .success(nil) }
                        var seen = floor
                        seen.see(ledger.shard, reading.position)
                        return .success(
                            FoundMessage(
                                record: record, ledger: ledger.notBefore(reading.position), seen: seen))
                    } catch let reason as ShardUnreadable {
                        return .failure(reason)
                    }
                }
            }
            var silent: ShardUnreadable?
            while let answer = try await group.next() {
                switch answer {
                case .success(let found?):
                    group.cancelAll()
                    return (found, nil)
                case .success(nil): break
                case .failure(let reason): silent = reason
                }
            }
            return (nil, silent)
        }
    }
}
