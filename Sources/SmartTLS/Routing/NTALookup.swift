// Whether a domain takes part in NTA 7516 this month, and at which hosts, as its TXT records say. What cannot be looked up is not
// absent; what is not plainly one valid record in a secure answer is.
import DNS
import Foundation

/// The lookup of a domain's NTA 7516 record.
struct NTALookup {
    /// What it says.
    struct Standing: Sendable {
        let finding: Finding
        /// The hosts of a valid record as MX records; none: the ordinary ones.
        let exchanges: [DNSRecord]
        let answer: DNSAnswer
    }

    let resolver: any DNSResolving

    /// Asks.
    func run(_ domain: DomainName, _ month: Month) async -> Result<Standing, DNSFailure> {
        let answer: DNSAnswer
        do {
            answer = try await resolver.resolve(domain, .txt)
        } catch {
            return .failure(error)
        }
        var records: [DNSRecord] = []
        if case .records(let found) = answer.outcome { records = found }
        switch NTARecord.read(records, security: answer.security, month: month) {
        case .absent(let absence):
            return .success(Standing(finding: absence.finding, exchanges: [], answer: answer))
        case .record(let record):
            let exchanges = record.exchanges.map {
                DNSRecord.mx(preference: $0.preference ?? .max, exchange: $0.host)
            }
            return .success(Standing(finding: .ntaCapable, exchanges: exchanges, answer: answer))
        }
    }
}

extension NTAAbsence {
    fileprivate var finding: Finding {
        switch self {
        case .noRecord: .ntaAbsent
        case .insecureAnswer: .ntaInsecure
        case .severalRecords, .unknownVersion, .malformed: .ntaMalformed
        case .notYetValid: .ntaNotYetValid
        case .expired: .ntaExpired
        }
    }
}

extension Month {
    private static let calendar: Calendar = {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = .gmt
        return calendar
    }()

    /// The month of a time in milliseconds since 1970, in UTC.
    init?(of milliseconds: Int64) {
        let date = Date(timeIntervalSince1970: Double(milliseconds) / 1000)
        let parts = Month.calendar.dateComponents([.year, .month], from: date)
        guard let year = parts.year, let month = parts.month else { return nil }
        self.init(year: year, month: month)
    }

    /// The time that is left of the month of a date, in UTC.
    static func remainder(at date: Date) -> Duration {
        guard let interval = calendar.dateInterval(of: .month, for: date) else { return .zero }
        return .seconds(interval.end.timeIntervalSince(date))
    }
}
