// The TXT record at a domain with which its owner says that it takes part in NTA 7516, and where. Two dialects are
// found, the norm's and an older one:
//
//     v=NTA7516-1;startdate=2019-06;enddate=2023-07;provider=X;ntamx=10 nta.example.nl;ntamx=20 nta2.example.nl
//     v=NTA7516;version:2019-06;expire:2019-10;provider:x;ntamx:nta.example.nl
//
// The two are read as one: either name of a date, `=` or `:`, any case of names, space around every part. The hosts
// it names receive what must not go astray, so that it counts only from a DNSSEC-secure answer; anything that is not
// plainly one valid record is no record, with the reason.
import DNS

/// A valid record.
struct NTARecord: Sendable, Hashable {
    /// A host that receives NTA 7516 mail.
    struct Exchange: Sendable, Hashable {
        /// Lower is tried first; the older dialect has none.
        let preference: UInt16?
        /// Its name.
        let host: DomainName
    }

    /// Longer records are not read, in octets: 255 is common.
    static let maximumSize = 4096
    /// More hosts than this are not read.
    static let maximumExchanges = 32

    /// The first month in which it is valid.
    let start: Month
    /// The last month in which it is valid, to its last day.
    let end: Month
    /// The communication service, as the owner names it; nil when not said.
    let provider: String?
    /// In the order in which they are tried: by preference, those without one last, equals as published. None: the
    /// ordinary MX of the domain.
    let exchanges: [Exchange]
}

/// A month of the calendar.
struct Month: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// 0 to 9999.
    let year: Int
    /// 1 to 12.
    let month: Int

    /// Takes numbers; nil when there is no such month.
    init?(year: Int, month: Int) {
        guard (0...9999).contains(year), (1...12).contains(month) else { return nil }
        (self.year, self.month) = (year, month)
    }

    /// Reads `YYYY-MM`.
    init?(_ text: ArraySlice<UInt8>) {
        let parts = text.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].count == 4, parts[1].count == 2,
            let year = RecordText.number(parts[0]), let month = RecordText.number(parts[1])
        else { return nil }
        self.init(year: year, month: month)
    }

    /// By time.
    static func < (left: Month, right: Month) -> Bool { (left.year, left.month) < (right.year, right.month) }

    /// `YYYY-MM`.
    var description: String {
        let digits = String(year)
        return String(repeating: "0", count: 4 - digits.count) + digits + (month < 10 ? "-0" : "-")
            + "\(month)"
    }
}

/// Why a domain does not count as one that takes part in NTA 7516.
enum NTAAbsence: Sendable, Hashable {
    /// No record here begins with `v=NTA7516`.
    case noRecord
    /// The answer is not DNSSEC-secure; a record in it may be anyone's.
    case insecureAnswer
    /// More than one record.
    case severalRecords
    /// A version of the record that is not known here.
    case unknownVersion
    /// The record is not one.
    case malformed(NTARecordFault)
    /// Its first month is still to come.
    case notYetValid(Month)
    /// Its last month is over.
    case expired(Month)
}

/// What is wrong with a record.
enum NTARecordFault: String, Error, Sendable, Hashable {
    /// More than `NTARecord.maximumSize` octets.
    case tooLarge = "the record is too large"
    /// A part is not a name and a value.
    case invalidField = "a field that is not name=value"
    /// A field other than `ntamx` is there twice.
    case repeatedField = "a field that is there twice"
    /// No first month, or not as `YYYY-MM`.
    case invalidStart = "no start date of the form YYYY-MM"
    /// No last month, or not as `YYYY-MM`.
    case invalidEnd = "no end date of the form YYYY-MM"
    /// The last month comes before the first.
    case endBeforeStart = "the end date is before the start date"
    /// An `ntamx` is not a host name, with or without a preference from 0 to 65535.
    case invalidExchange = "an ntamx that is not a preference and a host name"
    /// More than `NTARecord.maximumExchanges` hosts.
    case tooManyExchanges = "too many ntamx"
}

extension NTARecord {
    /// What the TXT records of a domain say of NTA 7516.
    enum Outcome: Sendable, Hashable {
        /// It takes part.
        case record(NTARecord)
        /// It does not, as far as anyone can rely on.
        case absent(NTAAbsence)
    }

    /// Reads the TXT records of a domain.
    ///
    /// - Parameters:
    ///   - records: the answer; other types are passed over.
    ///   - security: what DNSSEC says of the answer as a whole.
    ///   - month: the present month, in UTC.
    static func read(_ records: [DNSRecord], security: DNSSecurity, month: Month) -> Outcome {
        var candidates: [[UInt8]] = []
        for case .txt(let strings) in records {
            let text = Array(strings.joined())
            if version(of: text) != nil { candidates.append(text) }
        }
        guard let text = candidates.first else { return .absent(.noRecord) }
        guard security == .secure else { return .absent(.insecureAnswer) }
        guard candidates.count == 1 else { return .absent(.severalRecords) }
        guard let version = version(of: text), version == "nta7516" || version == "nta7516-1" else {
            return .absent(.unknownVersion)
        }
        do throws(NTARecordFault) {
            let record = try NTARecord(text: text)
            if month < record.start { return .absent(.notYetValid(record.start)) }
            if month > record.end { return .absent(.expired(record.end)) }
            return .record(record)
        } catch {
            return .absent(.malformed(error))
        }
    }

    /// The value of the first field in lower case, when it is `v` and names this norm.
    private static func version(of text: [UInt8]) -> String? {
        let first = text.prefix(64).prefix { $0 != UInt8(ascii: ";") }
        guard let (name, value) = field(first), name == "v" else { return nil }
        let version = String(decoding: value, as: UTF8.self).lowercased()
        return version == "nta7516" || version.hasPrefix("nta7516-") ? version : nil
    }

    private init(text: [UInt8]) throws(NTARecordFault) {
        guard text.count <= Self.maximumSize else { throw .tooLarge }
        var values: [String: ArraySlice<UInt8>] = [:]
        var exchanges: [Exchange] = []
        for part in text.split(separator: UInt8(ascii: ";")) where !RecordText.trimmed(part).isEmpty {
            guard let (name, value) = Self.field(part) else { throw .invalidField }
            if name == "ntamx" {
                guard exchanges.count < Self.maximumExchanges else { throw .tooManyExchanges }
                guard let exchange = Exchange(value) else { throw .invalidExchange }
                exchanges.append(exchange)
            } else {
                guard values.updateValue(value, forKey: Self.synonyms[name] ?? name) == nil else {
                    throw .repeatedField
                }
            }
        }
        guard let start = values["startdate"].flatMap(Month.init) else { throw .invalidStart }
        guard let end = values["enddate"].flatMap(Month.init) else { throw .invalidEnd }
        guard start <= end else { throw .endBeforeStart }
        self.start = start
        self.end = end
        provider = values["provider"].map { String(decoding: $0, as: UTF8.self) }
        // The sort is not promised to keep equals in order: their place decides.
        self.exchanges = exchanges.enumerated().sorted { left, right in
            let (first, second) = (left.element.rank, right.element.rank)
            return (first, left.offset) < (second, right.offset)
        }.map(\.element)
    }

    /// The older names, in terms of the norm's.
    private static let synonyms = ["version": "startdate", "expire": "enddate"]

    /// `name=value` or `name:value`: the first of either sign divides. The name comes in lower case.
    private static func field(_ text: ArraySlice<UInt8>) -> (name: String, value: ArraySlice<UInt8>)? {
        guard let sign = text.firstIndex(where: { $0 == UInt8(ascii: "=") || $0 == UInt8(ascii: ":") }) else {
            return nil
        }
        let name = RecordText.trimmed(text[..<sign])
        let value = RecordText.trimmed(text[(sign + 1)...])
        guard RecordText.isExtensionName(name), !value.isEmpty, value.allSatisfy({ $0 >= 0x20 && $0 != 0x7f })
        else { return nil }
        return (String(decoding: name, as: UTF8.self).lowercased(), value)
    }
}

extension NTARecord.Exchange {
    /// Reads `10 host` or `host`.
    fileprivate init?(_ value: ArraySlice<UInt8>) {
        let words = value.split(whereSeparator: RecordText.isSpace)
        guard let name = words.last, name.count <= 254, name.allSatisfy({ $0 < 0x80 }),
            let host = try? DomainName(String(decoding: name, as: UTF8.self)), host.isHostName
        else { return nil }
        self.host = host
        switch words.count {
        case 1: preference = nil
        case 2:
            guard let number = RecordText.number(words[0]), let preference = UInt16(exactly: number) else {
                return nil
            }
            self.preference = preference
        default: return nil
        }
    }

    fileprivate var rank: Int { preference.map(Int.init) ?? Int.max }
}
