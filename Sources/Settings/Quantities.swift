// Quantities with units as an operator writes them: sizes and durations.

/// A number of bytes. `KB MB GB` are powers of 1000, `KiB MiB GiB` powers of 1024.
public struct ByteCount: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The number of bytes.
    public var bytes: Int

    /// Makes a count of `bytes`.
    public init(_ bytes: Int) { self.bytes = bytes }

    private static let units: [(String, Int)] = [
        ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
        ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000), ("B", 1),
    ]

    /// Reads `50MB`, `64 KiB` or `1000`; nil for anything else, negative numbers and overflow.
    public init?(_ text: String) {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = trimmed(text.dropFirst(digits.count))
        guard let number = Int(digits) else { return nil }
        let factor =
            unit.isEmpty ? 1 : Self.units.first { $0.0.lowercased() == unit.lowercased() }?.1
        guard let factor else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
        guard !overflow else { return nil }
        self.bytes = bytes
    }

    /// The exact text with the smallest number: `50MB`, `64KiB`, `1234B`.
    public var description: String {
        let exact = Self.units.filter { bytes >= $0.1 && bytes % $0.1 == 0 }
        guard let (unit, factor) = exact.max(by: { $0.1 < $1.1 }) else { return "\(bytes)B" }
        return "\(bytes / factor)\(unit)"
    }

    /// Compares the numbers of bytes.
    public static func < (a: ByteCount, b: ByteCount) -> Bool { a.bytes < b.bytes }
}

/// Durations as text: `250ms`, `15s`, `1h30m`, `5d`.
public enum DurationText {
    private static let units: [(String, Int64)] = [
        ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    /// Reads one or more numbers with units; nil for a bare number, unknown units and overflow.
    public static func parse(_ text: String) -> Duration? {
        var rest = Substring(text)
        var total: Int64 = 0
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let number = Int64(digits), let factor = units.first(where: { $0.0 == unit })?.1 else {
                return nil
            }
            let (part, tooLarge) = number.multipliedReportingOverflow(by: factor)
            let (sum, overflow) = total.addingReportingOverflow(part)
            guard !tooLarge, !overflow else { return nil }
            total = sum
        }
        return .milliseconds(total)
    }

    /// The shortest text of `duration`, to the millisecond.
    public static func text(_ duration: Duration) -> String {
        var rest =
            duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
        if rest == 0 { return "0s" }
        var text = ""
        for (unit, factor) in units.reversed() where rest >= factor {
            text += "\(rest / factor)\(unit)"
            rest %= factor
        }
        return text
    }
}
