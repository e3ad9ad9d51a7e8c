/// What a sender asks of delivery reports for one recipient: NOTIFY of RFC 3461 §4.1.
public struct DSNNotify: OptionSet, Sendable, Hashable {
    /// The bits as they are stored.
    public let rawValue: UInt8
    /// A set from its stored bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// No report, whatever happens; stands alone.
    public static let never = DSNNotify(rawValue: 1)
    /// A report when it was delivered.
    public static let success = DSNNotify(rawValue: 2)
    /// A report when it cannot be delivered.
    public static let failure = DSNNotify(rawValue: 4)
    /// A report when it is late.
    public static let delay = DSNNotify(rawValue: 8)

    /// The value of the parameter on the wire: `SUCCESS,FAILURE`.
    public var parameterValue: String {
        if contains(.never) { return "NEVER" }
        var words: [String] = []
        if contains(.success) { words.append("SUCCESS") }
        if contains(.failure) { words.append("FAILURE") }
        if contains(.delay) { words.append("DELAY") }
        return words.joined(separator: ",")
    }
}

/// How much of a message comes back in a failure report: RET of RFC 3461 §4.3.
public enum ReturnContent: UInt8, Sendable, Hashable {
    /// The whole message.
    case full = 1
    /// Its headers only.
    case headers = 2

    /// The value of the parameter on the wire.
    public var parameterValue: String { self == .full ? "FULL" : "HDRS" }
}

/// The recipient as the original sender wrote it: ORCPT of RFC 3461 §4.2.
public struct OriginalRecipient: Sendable, Hashable {
    /// The address type, such as `rfc822` or `utf-8`.
    public let addressType: String
    /// The address, decoded from `xtext`.
    public let address: String

    /// An original recipient from its parts.
    public init(addressType: String, address: String) {
        self.addressType = addressType
        self.address = address
    }

    /// The value of the parameter on the wire, `rfc822;` and an `xtext`.
    public var parameterValue: String { "\(addressType);\(XText.encode(address.utf8))" }
}
