// A moment that a shard is to be taken back to, and the window in which there is one.

import Foundation

/// The moments that can be restored: every one from the first to before the end.
public struct RestorableWindow: Sendable, Equatable, Codable {
    /// The first.
    public var from: Date
    /// The newest transaction in the archive: what was committed before it can be told.
    public var to: Date

    /// What two shards have in common; nil: nothing.
    func intersection(_ other: RestorableWindow) -> RestorableWindow? {
        let both = RestorableWindow(from: max(from, other.from), to: min(to, other.to))
        return both.from < both.to ? both : nil
    }

    /// Whether a moment lies in it.
    func contains(_ moment: Date) -> Bool { from <= moment && moment < to }

    /// For people: in their own time zone and in UTC, to the second.
    public func text(in zone: TimeZone = .current) -> String {
        func range(_ zone: TimeZone) -> String {
            // Within: a moment that is shown can be restored.
            let first = Date(timeIntervalSince1970: from.timeIntervalSince1970.rounded(.up))
            let last = Date(timeIntervalSince1970: (to.timeIntervalSince1970 - 1e-6).rounded(.down))
            return "\(RestorePoint.text(first, in: zone)) to \(RestorePoint.text(last, in: zone))"
        }
        let utc = TimeZone.gmt
        if zone.secondsFromGMT(for: from) == 0, zone.secondsFromGMT(for: to) == 0 { return range(utc) }
        return "\(range(zone)) (\(range(utc)))"
    }
}

/// Moments as people and PostgreSQL write them.
public enum RestorePoint {
    /// Reads a moment as RFC 3339 §5.6 writes it, with its zone and up to six digits of a second.
    /// - Returns: nil for anything else.
    public static func moment(_ text: String) -> Date? {
        let parts = Array(text.utf8)
        guard parts.count >= 20, parts[10] == 0x54 || parts[10] == 0x74 || parts[10] == 0x20 else {
            return nil
        }
        let seconds = String(decoding: parts[0..<10] + [0x54] + parts[11..<19], as: UTF8.self)
        var rest = text.dropFirst(19)
        var fraction = 0.0
        if rest.first == "." {
            let digits = rest.dropFirst().prefix { $0.isASCII && $0.isNumber }
            guard (1...6).contains(digits.count), let value = Double("0." + digits) else { return nil }
            fraction = value
            rest = rest.dropFirst(1 + digits.count)
        }
        guard let offset = offset(rest), let whole = utc(seconds) else { return nil }
        return whole.addingTimeInterval(fraction - offset)
    }

    /// Reads the moment that `pg_waldump` shows, in UTC: `2026-11-27 17:21:22.252497 UTC`.
    static func moment(ofDump text: String) -> Date? {
        let words = text.split(separator: " ")
        guard words.count == 3, words[2] == "UTC" else { return nil }
        return moment("\(words[0])T\(words[1])Z")
    }

    // YYYY-MM-DDTHH:MM:SS, as UTC; nothing that a calendar does not have.
    private static func utc(_ text: String) -> Date? {
        let format = Date.ISO8601FormatStyle(timeZone: .gmt).year().month().day().time(
            includingFractionalSeconds: false)
        guard let date = try? Date(text, strategy: format), date.formatted(format) == text else { return nil }
        return date
    }

    // Z, or +HH:MM: seconds east of UTC.
    private static func offset(_ text: Substring) -> TimeInterval? {
        if text == "Z" || text == "z" { return 0 }
        let bytes = Array(text.utf8)
        guard bytes.count == 6, bytes[3] == 0x3A, bytes[0] == 0x2B || bytes[0] == 0x2D,
            let hours = Int(text.dropFirst().prefix(2)), let minutes = Int(text.suffix(2)), hours < 24,
            minutes < 60,
            ([1, 2, 4, 5].allSatisfy { (0x30...0x39).contains(bytes[$0]) })
        else { return nil }
        return TimeInterval(bytes[0] == 0x2D ? -1 : 1) * TimeInterval(hours * 3600 + minutes * 60)
    }

    /// RFC 3339, to the second, in a zone.
    public static func text(_ moment: Date, in zone: TimeZone = .gmt) -> String {
        let format = Date.ISO8601FormatStyle(timeZone: zone).year().month().day()
            .time(includingFractionalSeconds: false).timeZone(separator: .colon)
        return moment.formatted(format)
    }

    /// RFC 3339 to the microsecond, in UTC.
    public static func precise(_ moment: Date) -> String {
        let all = (moment.timeIntervalSince1970 * 1e6).rounded()
        let (seconds, micros) = ((all / 1e6).rounded(.down), all.truncatingRemainder(dividingBy: 1e6))
        let digits = String(Int(micros))
        return text(Date(timeIntervalSince1970: seconds)).dropLast() + "."
            + String(repeating: "0", count: 6 - digits.count) + digits + "Z"
    }

    /// A value as JSON, with moments in RFC 3339 to the microsecond.
    public static func json(_ value: some Encodable) throws(ClusterError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            try container.encode(precise(date))
        }
        do { return String(decoding: try encoder.encode(value), as: UTF8.self) } catch {
            throw ClusterError(.state, "what was found cannot be written: \(error)")
        }
    }

    /// Takes the moment that an operator asked for.
    /// - Parameters:
    ///   - window: what there is.
    ///   - zone: the operator's.
    /// - Throws: `usage`, with the window, for a moment that is none, that is to come, or that is not in the window.
    static func demand(
        _ text: String, in window: RestorableWindow, now: Date = Date(), zone: TimeZone = .current
    ) throws(ClusterError) -> Date {
        let there = "; what can be restored is \(window.text(in: zone))"
        guard let moment = moment(text) else {
            let isWithoutZone = Self.moment(text + "Z") != nil
            throw ClusterError(
                .usage,
                isWithoutZone
                    ? "--to \(text) has no time zone: write \(text)Z for UTC, or \(text)+01:00" + there
                    : "--to \(text): write it as RFC 3339 does, 2026-11-27T17:21:22Z" + there)
        }
        if moment > now { throw ClusterError(.usage, "--to \(text) is still to come" + there) }
        guard window.contains(moment) else {
            throw ClusterError(.usage, "--to \(text) is not in the archive" + there)
        }
        return moment
    }
}
