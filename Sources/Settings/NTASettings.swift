// How NTA 7516 is applied. Name and value of its header field are in no public text, so they are configuration.

/// What a worker does and judges under rulesets with `nta`.
public struct NTASettings: Sendable {
    /// The field that marks a message that goes out so, as `Name: value` without a line end; nil: none.
    public var header: String?
    /// Networks inside the European Economic Area; with any, every other address is outside.
    public var eeaNetworks: [NetworkBlock]
    /// Networks outside of it, also where they are part of one inside.
    public var outsideNetworks: [NetworkBlock]

    /// Reads the keys `nta.…`.
    ///
    /// - Throws: `SettingsError` where only one of name and value is set, or the field is too long for a line.
    public init(_ s: Settings) throws(SettingsError) {
        eeaNetworks = s[Keys.ntaEEANetworks]
        outsideNetworks = s[Keys.ntaOutsideNetworks]
        guard s[Keys.ntaHeaderName] != nil || s[Keys.ntaHeaderValue] != nil else { return }
        let name = try s.required(Keys.ntaHeaderName, for: "nta.header_value")
        let value = try s.required(Keys.ntaHeaderValue, for: "nta.header_name")
        header = "\(name): \(value)"
    }
}

extension SettingType where Value == String {
    /// The name of a header field (RFC 5322 §3.6.8).
    static var fieldName: SettingType {
        .scalar("header name", limits: "1 … 64 octets") { (text) throws(SettingProblem) in
            guard (1...64).contains(text.utf8.count),
                text.utf8.allSatisfy({ (33...126).contains($0) && $0 != UInt8(ascii: ":") })
            else {
                throw SettingProblem(
                    problem: "'\(text)' is no name of a header field", fix: "write one such as X-NTA7516")
            }
            return text
        }
    }

    /// The value of a header field on one line (RFC 5322 §2.2).
    static var fieldValue: SettingType {
        .scalar("header value", limits: "1 … 900 octets") { (text) throws(SettingProblem) in
            guard (1...900).contains(text.utf8.count), text.utf8.allSatisfy({ (32...126).contains($0) }),
                !text.hasPrefix(" "), !text.hasSuffix(" ")
            else {
                throw SettingProblem(
                    problem: "is no value of a header field",
                    fix: "write printable ASCII on one line, without blanks around it")
            }
            return text
        }
    }
}
