/// `date-time` of RFC 5322 §3.3 in UTC, without a formatter: it is written once for every message.
public enum MailDate {
    private static let weekdays: [StaticString] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months: [StaticString] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// Appends a date such as `Tue, 24 Nov 2026 22:15:09 +0000`.
    ///
    /// - Parameter seconds: Seconds since 1970-01-01 00:00 UTC.
    public static func append(secondsSince1970 seconds: Int, to bytes: inout [UInt8]) {
        var days = seconds / 86_400
        var rest = seconds % 86_400
        if rest < 0 {
            rest += 86_400
            days -= 1
        }
        let date = CivilDate(daysSince1970: days)
        append(weekdays[((days % 7) + 7) % 7], to: &bytes)
        bytes.append(ASCII.comma)
        bytes.append(ASCII.space)
        append(date.day, to: &bytes)
        bytes.append(ASCII.space)
        append(months[date.month - 1], to: &bytes)
        bytes.append(ASCII.space)
        append(date.year / 100, to: &bytes)
        append(date.year % 100, to: &bytes)
        bytes.append(ASCII.space)
        append(rest / 3600, to: &bytes)
        bytes.append(ASCII.colon)
        append(rest / 60 % 60, to: &bytes)
        bytes.append(ASCII.colon)
        append(rest % 60, to: &bytes)
        append(" +0000", to: &bytes)
    }

    private static func append(_ text: StaticString, to bytes: inout [UInt8]) {
        text.withUTF8Buffer { bytes.append(contentsOf: $0) }
    }

    private static func append(_ number: Int, to bytes: inout [UInt8]) {
        bytes.append(0x30 + UInt8(truncatingIfNeeded: number / 10 % 10))
        bytes.append(0x30 + UInt8(truncatingIfNeeded: number % 10))
    }
}

/// A day of the Gregorian calendar.
public struct CivilDate: Sendable, Hashable {
    /// The year.
    public let year: Int
    /// 1 to 12.
    public let month: Int
    /// 1 to 31.
    public let day: Int

    /// The day that lies so many days after 1970-01-01.
    public init(daysSince1970 days: Int) {
        // Era by era of 400 years; the year begins in March.
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }
}
