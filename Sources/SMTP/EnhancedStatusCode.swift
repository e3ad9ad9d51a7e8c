// The three-part status of RFC 3463: class, subject, detail. A reply's code says what to do, this says why;
// the one of a remote server is kept apart from ours all the way to the notification and the event.

/// An enhanced mail system status code, such as `5.7.1` (RFC 3463, registry in RFC 5248).
public struct EnhancedStatusCode: Sendable, Hashable, CustomStringConvertible {
    /// 2 (success), 4 (persistent transient failure) or 5 (permanent failure).
    public var statusClass: Int
    /// The subject, 0 to 999: what the status is about (addressing, mailbox, system, network, protocol, content, security).
    public var subject: Int
    /// The detail within the subject, 0 to 999.
    public var detail: Int

    /// A code from its three parts, each trusted to be in range.
    public init(_ statusClass: Int, _ subject: Int, _ detail: Int) {
        self.statusClass = statusClass
        self.subject = subject
        self.detail = detail
    }

    /// Reads `c.s.d` (RFC 3463 §2: class one digit of 2, 4, 5; the others one to three digits); nil when it is anything else.
    public init?(_ text: some StringProtocol) {
        var copy = String(text)
        let parsed = copy.withUTF8 { EnhancedStatusCode.read(UnsafeRawBufferPointer($0)) }
        guard let parsed, parsed.length == copy.utf8.count else { return nil }
        self = parsed.code
    }

    /// The status as it is written: `5.7.1`.
    public var description: String { "\(statusClass).\(subject).\(detail)" }

    /// A code at the start of `bytes` and the number of bytes it takes; nil when there is none.
    static func read(_ bytes: UnsafeRawBufferPointer) -> (code: EnhancedStatusCode, length: Int)? {
        guard bytes.count >= 5, bytes[0] == 0x32 || bytes[0] == 0x34 || bytes[0] == 0x35,
            bytes[1] == 0x2E
        else { return nil }
        var index = 2
        func number() -> Int? {
            let start = index
            var value = 0
            while index < bytes.count, index - start < 4, bytes[index] &- 0x30 < 10 {
                value = value * 10 + Int(bytes[index] - 0x30)
                index += 1
            }
            return index > start && index - start <= 3 ? value : nil
        }
        guard let subject = number(), index < bytes.count, bytes[index] == 0x2E else { return nil }
        index += 1
        guard let detail = number() else { return nil }
        return (EnhancedStatusCode(Int(bytes[0] - 0x30), subject, detail), index)
    }
}

extension EnhancedStatusCode: Codable {
    /// Reads the written form.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let code = EnhancedStatusCode(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a status code")
        }
        self = code
    }

    /// Writes the written form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
