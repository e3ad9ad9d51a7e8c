// The daily keys under which replay tags are made (design §7), fetched once a tenant and day.

import CLinux
import Foundation
import Ledger
import SMTP
import Synchronization

/// The keys for the tags of one transaction.
struct ReplayTagKeys: Sendable {
    let today: [UInt8]
    /// Yesterday's key, while a client may still repeat what it sent before midnight.
    let yesterday: [UInt8]?
}

/// Caches the keys of the present day.
final class ReplayKeys: Sendable {
    /// How long after midnight (UTC) yesterday's tags are looked for: a client that lost its 250 repeats within hours.
    static let overlap: TimeInterval = 6 * 3600

    private struct Entry {
        var day: Int
        var keys: [[UInt8]]
    }

    private let ledger: ControlLedger
    private let leader: ControlLedger
    private let entries = Mutex<[String: Entry]>([:])

    /// - Parameters:
    ///   - ledger: the control schema as a member has it.
    ///   - leader: the same at its leader, who makes a key that nobody has made ahead; nil: `ledger` is that.
    init(ledger: ControlLedger, leader: ControlLedger? = nil) {
        self.ledger = ledger
        self.leader = leader ?? ledger
    }

    private static func day(_ now: Date) -> Int { Int((now.timeIntervalSince1970 / 86_400).rounded(.down)) }

    /// The keys, if they are here already.
    func cached(tenant: String, now: Date) -> ReplayTagKeys? {
        let day = Self.day(now)
        return entries.withLock { entries in
            guard let entry = entries[tenant], entry.day == day, let today = entry.keys.first else {
                return nil
            }
            let isEarly = now.timeIntervalSince1970 - Double(day) * 86_400 < Self.overlap
            return ReplayTagKeys(
                today: today, yesterday: isEarly && entry.keys.count > 1 ? entry.keys[1] : nil)
        }
    }

    /// The keys, from the database if need be.
    func fetch(tenant: String, now: Date) async throws -> ReplayTagKeys {
        if let keys = cached(tenant: tenant, now: now) { return keys }
        let day = Self.day(now)
        let keys: [[UInt8]]
        if let known = try await ledger.knownReplayKeys(tenant: tenant, day: Self.text(day)) {
            keys = known
        } else {
            var candidate = [UInt8](repeating: 0, count: 32)
            candidate.withUnsafeMutableBytes { zegel_random($0.baseAddress, 32) }
            keys = try await leader.replayKeys(tenant: tenant, day: Self.text(day), candidate: candidate)
        }
        guard let today = keys.first else { throw MissingReplayKey() }
        entries.withLock { $0[tenant] = Entry(day: day, keys: keys) }
        return cached(tenant: tenant, now: now) ?? ReplayTagKeys(today: today, yesterday: nil)
    }

    struct MissingReplayKey: Error {}

    /// `2026-11-24`
    static func text(_ day: Int) -> String {
        let date = CivilDate(daysSince1970: day)
        func padded(_ number: Int, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(padded(date.year, 4))-\(padded(date.month, 2))-\(padded(date.day, 2))"
    }
}
