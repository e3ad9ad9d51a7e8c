// The policy that a domain serves at `https://mta-sts.<domain>/.well-known/mta-sts.txt` (RFC 8461 §3.2):
//
//     version: STSv1
//     mode: enforce
//     mx: mail.example.nl
//     mx: *.backup.example.nl
//     max_age: 604800
//
// Where the text leaves a choice:
// - A `max_age` above the maximum of a year counts as that year. To reject the policy would leave the domain, which
//   asks to be held to it for as long as can be, with none at all.
// - Space behind a value and empty lines, which the grammar does not have and editors leave behind, are passed over.
// - Everything else that is no `key: value` makes the whole policy invalid, an `mx` that is no name included: half a
//   policy is never enforced, and the fault is told with its line (`sts-policy-invalid`, RFC 8460 §4.3.2.1).
import DNS
import Policy

/// A policy as it was fetched; how long it holds is counted by `MTASTSCacheEntry`.
public struct MTASTSPolicy: Sendable, Hashable {
    /// What a sender does with a host that fails.
    enum Mode: String, Sendable, Hashable, Codable {
        /// Does not deliver to it.
        case enforce
        /// Delivers, and reports.
        case testing
        /// There is no policy any more.
        case none
    }

    /// A longer body is not read (RFC 8461 §3.3 suggests this limit), in octets.
    static let maximumBodySize = 64 << 10
    /// The longest time for which a policy holds (RFC 8461 §3.2): a year of 365.25 days.
    static let maximumAge: Duration = .seconds(31_557_600)

    /// What to do with a host that fails.
    let mode: Mode
    /// For how long it holds from when it was fetched: 0 to `maximumAge`.
    let maxAge: Duration
    /// Which hosts may receive mail for the domain; empty only under mode `none`.
    let mx: [MXPattern]

    /// Reads the body of the response, without its header.
    init(body: [UInt8]) throws(MTASTSPolicyError) {
        guard body.count <= Self.maximumBodySize else { throw MTASTSPolicyError(nil, .tooLarge) }
        var version: Bool?
        var mode: Mode?
        var maxAge: Duration?
        var mx: [MXPattern] = []
        let lines = body.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            let line = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
            if RecordText.trimmed(line).isEmpty { continue }
            func fault(_ reason: MTASTSPolicyError.Reason) -> MTASTSPolicyError {
                MTASTSPolicyError(index + 1, reason)
            }
            guard let (key, value) = Self.field(line) else { throw fault(.notKeyAndValue) }
            // Of a key that may not be repeated the first counts and the rest is ignored, whatever it says.
            switch key {
            case "version" where version == nil:
                guard value.elementsEqual("STSv1".utf8) else { throw fault(.unknownVersion) }
                version = true
            case "mode" where mode == nil:
                guard let known = Mode(rawValue: String(decoding: value, as: UTF8.self)) else {
                    throw fault(.unknownMode)
                }
                mode = known
            case "max_age" where maxAge == nil:
                guard let seconds = RecordText.number(value) else { throw fault(.invalidMaxAge) }
                maxAge = min(.seconds(seconds), Self.maximumAge)
            case "mx":
                guard let pattern = MXPattern(value) else { throw fault(.invalidMX) }
                mx.append(pattern)
            default: break
            }
        }
        guard version != nil else { throw MTASTSPolicyError(nil, .missingVersion) }
        guard let mode else { throw MTASTSPolicyError(nil, .missingMode) }
        guard let maxAge else { throw MTASTSPolicyError(nil, .missingMaxAge) }
        guard !mx.isEmpty || mode == .none else { throw MTASTSPolicyError(nil, .missingMX) }
        (self.mode, self.maxAge, self.mx) = (mode, maxAge, mx)
    }

    /// The same policy as a body in its shortest form, never longer than the one it was read from.
    var body: [UInt8] {
        var text = "version:STSv1\nmode:\(mode.rawValue)\nmax_age:\(maxAge.components.seconds)\n"
        for pattern in mx { text += "mx:\(pattern)\n" }
        return Array(text.utf8)
    }

    /// Whether this host may receive mail for the domain (RFC 8461 §4.1). Under mode `none` nobody asks.
    func matches(host: DomainName) -> Bool { mx.contains { $0.matches(host) } }

    /// `key: value`, the value without the space around it; nil for a line that is something else.
    private static func field(_ line: ArraySlice<UInt8>) -> (key: String, value: ArraySlice<UInt8>)? {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")),
            RecordText.isExtensionName(line[..<colon])
        else { return nil }
        let value = RecordText.trimmed(line[(colon + 1)...])
        // Visible letters, spaces between them and UTF-8 (`sts-policy-ext-value`), no control octets.
        guard !value.isEmpty, value.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else { return nil }
        return (String(decoding: line[..<colon], as: UTF8.self), value)
    }
}

extension MTASTSPolicy {
    /// A name, or `*.` and a name: any one label in front of it (RFC 8461 §4.1).
    struct MXPattern: Sendable, Hashable, CustomStringConvertible {
        /// The name, without the `*.`.
        let name: DomainName
        /// Whether one more label stands in front.
        let isWildcard: Bool

        /// Reads letters, digits, hyphens and dots: a U-label is no pattern, its A-label is; case and a trailing dot
        /// make no difference.
        init?(_ text: ArraySlice<UInt8>) {
            let isWildcard = text.starts(with: "*.".utf8)
            let name = isWildcard ? text.dropFirst(2) : text
            guard name.count <= 254, name.allSatisfy({ $0 < 0x80 }),
                let name = try? DomainName(String(decoding: name, as: UTF8.self)), name != .root
            else { return nil }
            (self.name, self.isWildcard) = (name, isWildcard)
        }

        /// Whether the host is this name, or this name with exactly one label in front.
        func matches(_ host: DomainName) -> Bool {
            guard isWildcard else { return host == name }
            let labels = host.labels
            return labels.count == name.labels.count + 1 && labels.dropFirst().elementsEqual(name.labels)
        }

        /// As in a policy.
        var description: String { isWildcard ? "*." + name.text : name.text }
    }
}

/// Why a body is no policy. Shown to whoever publishes it.
struct MTASTSPolicyError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kinds of fault.
    enum Reason: String, Sendable, Hashable {
        /// More than 64 KB.
        case tooLarge = "the policy is larger than 64 KB"
        /// A line is not `key: value`.
        case notKeyAndValue = "not a line of the form 'key: value'"
        /// The first `version` is not `STSv1`.
        case unknownVersion = "the version is not STSv1"
        /// The first `mode` is none of the three.
        case unknownMode = "the mode is not enforce, testing or none"
        /// The first `max_age` is not one to ten digits.
        case invalidMaxAge = "max_age is not a number of seconds"
        /// An `mx` is neither a name nor `*.` and a name.
        case invalidMX = "mx is not a host name (in A-labels), nor '*.' and one"
        /// No `version`.
        case missingVersion = "there is no version"
        /// No `mode`.
        case missingMode = "there is no mode"
        /// No `max_age`.
        case missingMaxAge = "there is no max_age"
        /// No `mx`, though the mode is not `none`.
        case missingMX = "there is no mx"
    }

    /// Its line, the first being 1; nil where the fault is the whole.
    let line: Int?
    /// What is wrong.
    let reason: Reason

    init(_ line: Int?, _ reason: Reason) { (self.line, self.reason) = (line, reason) }

    /// The result under which it is reported (RFC 8460 §4.3.2.1).
    var resultType: ReasonCode { ReasonCode(rawValue: "sts-policy-invalid") }

    /// Line and reason.
    var description: String { (line.map { "line \($0): " } ?? "") + reason.rawValue }
}
