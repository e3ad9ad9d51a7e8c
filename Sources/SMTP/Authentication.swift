/// The SASL exchanges of AUTH that a server here speaks: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).

/// What a client gave to prove who it is.
public struct AuthenticationAttempt: Sendable {
    /// The mechanism, in upper case.
    public let mechanism: String
    /// The name of the user.
    public let user: String
    /// The octets of the password.
    public let password: [UInt8]
}

/// One AUTH exchange, from the command to the credentials.
struct AuthenticationExchange {
    enum Step {
        case challenge(SMTPReply)
        case complete(AuthenticationAttempt)
        case failed(SMTPReply)
    }

    private enum Expected {
        case plainResponse
        case loginUser
        case loginPassword(user: String)
    }

    private var expected: Expected

    static let mechanisms = ["PLAIN", "LOGIN"]

    /// Begins an exchange; `nil` for a mechanism that is not spoken here.
    init?(mechanism: String) {
        switch mechanism {
        case "PLAIN": expected = .plainResponse
        case "LOGIN": expected = .loginUser
        default: return nil
        }
    }

    /// What follows the AUTH command itself. An initial response of `=` is an empty one (RFC 4954 §4).
    mutating func begin(initialResponse: String?) -> Step {
        guard let initialResponse else { return .challenge(challenge) }
        return respond(initialResponse == "=" ? [] : Array(initialResponse.utf8))
    }

    /// What follows a line of the client.
    mutating func respond(_ line: [UInt8]) -> Step {
        if line == [0x2A] { return .failed(SMTPReply(501, .init(5, 5, 2), "Authentication cancelled")) }
        guard let response = Base64.decode(line) else {
            return .failed(SMTPReply(501, .init(5, 5, 2), "Response is not base64"))
        }
        switch expected {
        case .plainResponse:
            // authzid NUL authcid NUL passwd; nobody acts for another here.
            let parts = response.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, !parts[1].isEmpty, !parts[2].isEmpty, !parts[2].contains(0),
                let user = String(validating: parts[1], as: UTF8.self)
            else { return .failed(SMTPReply(501, .init(5, 5, 2), "Response is malformed")) }
            guard parts[0].isEmpty || parts[0] == parts[1] else { return .failed(Self.refused) }
            return .complete(
                AuthenticationAttempt(mechanism: "PLAIN", user: user, password: Array(parts[2])))
        case .loginUser:
            guard !response.isEmpty, let user = String(validating: response, as: UTF8.self) else {
                return .failed(SMTPReply(501, .init(5, 5, 2), "Response is malformed"))
            }
            expected = .loginPassword(user: user)
            return .challenge(challenge)
        case .loginPassword(let user):
            guard !response.isEmpty else {
                return .failed(SMTPReply(501, .init(5, 5, 2), "Response is malformed"))
            }
            return .complete(AuthenticationAttempt(mechanism: "LOGIN", user: user, password: response))
        }
    }

    /// 535 5.7.8 (RFC 4954 §6): the same whatever was wrong.
    static let refused = SMTPReply(535, .init(5, 7, 8), "Authentication credentials invalid")

    private var challenge: SMTPReply {
        switch expected {
        case .plainResponse: SMTPReply(334, nil, "")
        case .loginUser: SMTPReply(334, nil, "VXNlcm5hbWU6")
        case .loginPassword: SMTPReply(334, nil, "UGFzc3dvcmQ6")
        }
    }
}

/// Base64 of RFC 4648 §4, strict: padding where it belongs, no white space.
enum Base64 {
    static func decode(_ text: [UInt8]) -> [UInt8]? {
        guard text.count % 4 == 0 else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(text.count / 4 * 3)
        var index = 0
        while index < text.count {
            let isLast = index + 4 == text.count
            var group: UInt32 = 0
            var padding = 0
            for offset in 0..<4 {
                let octet = text[index + offset]
                if octet == ASCII.equals, isLast, offset >= 2 {
                    padding += 1
                    group <<= 6
                } else {
                    guard padding == 0, let value = value(octet) else { return nil }
                    group = group << 6 | value
                }
            }
            result.append(UInt8(truncatingIfNeeded: group >> 16))
            if padding < 2 { result.append(UInt8(truncatingIfNeeded: group >> 8)) }
            if padding < 1 { result.append(UInt8(truncatingIfNeeded: group)) }
            index += 4
        }
        return result
    }

    private static func value(_ octet: UInt8) -> UInt32? {
        switch octet {
        case 0x41...0x5A: UInt32(octet - 0x41)
        case 0x61...0x7A: UInt32(octet - 0x61 + 26)
        case 0x30...0x39: UInt32(octet - 0x30 + 52)
        case 0x2B: 62
        case 0x2F: 63
        default: nil
        }
    }
}
