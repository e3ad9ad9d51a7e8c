/// The parameters of MAIL (RFC 1870, 3461, 4954, 6152, 6531, 8689).
struct MailParameters: Equatable {
    var size: Int?
    var body: Envelope.Body?
    var smtpUTF8 = false
    var returnContent: ReturnContent?
    var envelopeID: String?
    var requireTLS = false
    var isEmpty = true

    static func parse(_ cursor: inout ByteCursor) throws(CommandError) -> MailParameters {
        var result = MailParameters()
        var seen: Set<String> = []
        while let (keyword, value) = try CommandParameter.next(&cursor) {
            guard seen.insert(keyword).inserted else { throw CommandError(.parameterSyntax) }
            result.isEmpty = false
            switch (keyword, value) {
            case ("SIZE", let value?):
                guard !value.isEmpty, value.count <= 20, value.allSatisfy(ASCII.isDigit) else {
                    throw CommandError(.parameterSyntax)
                }
                // What does not fit in 63 bits is as large as a size can be.
                result.size = Int(String(decoding: value, as: UTF8.self)) ?? .max
            case ("BODY", let value?):
                switch String(decoding: value, as: UTF8.self).uppercased() {
                case "7BIT": result.body = .sevenBit
                case "8BITMIME": result.body = .eightBitMIME
                default: throw CommandError(.parameterUnknown)
                }
            case ("SMTPUTF8", nil): result.smtpUTF8 = true
            case ("RET", let value?):
                switch String(decoding: value, as: UTF8.self).uppercased() {
                case "FULL": result.returnContent = .full
                case "HDRS": result.returnContent = .headers
                default: throw CommandError(.parameterSyntax)
                }
            case ("ENVID", let value?):
                // RFC 3461 §4.4: at most 100 characters, encoded.
                guard (1...100).contains(value.count), let decoded = XText.decode(value),
                    decoded.allSatisfy({ $0 >= 0x20 && $0 < 0x7F })
                else { throw CommandError(.parameterSyntax) }
                result.envelopeID = String(decoding: decoded, as: UTF8.self)
            case ("AUTH", let value?):
                // RFC 4954 §5: taken, and never trusted.
                guard !value.isEmpty, value.count <= 500, XText.decode(value) != nil else {
                    throw CommandError(.parameterSyntax)
                }
            case ("REQUIRETLS", nil): result.requireTLS = true
            case ("SMTPUTF8", _), ("REQUIRETLS", _), ("SIZE", nil), ("BODY", nil), ("RET", nil),
                ("ENVID", nil),
                ("AUTH", nil):
                throw CommandError(.parameterSyntax)
            default: throw CommandError(.parameterUnknown)
            }
        }
        return result
    }
}

/// The parameters of RCPT (RFC 3461 §4.1, §4.2).
struct RecipientParameters: Equatable {
    var notify: DSNNotify?
    var originalRecipient: OriginalRecipient?
    var isEmpty = true

    static func parse(_ cursor: inout ByteCursor) throws(CommandError) -> RecipientParameters {
        var result = RecipientParameters()
        while let (keyword, value) = try CommandParameter.next(&cursor) {
            result.isEmpty = false
            switch (keyword, value) {
            case ("NOTIFY", let value?):
                guard result.notify == nil else { throw CommandError(.parameterSyntax) }
                result.notify = try notify(value)
            case ("ORCPT", let value?):
                guard result.originalRecipient == nil else { throw CommandError(.parameterSyntax) }
                result.originalRecipient = try originalRecipient(value)
            case ("NOTIFY", nil), ("ORCPT", nil): throw CommandError(.parameterSyntax)
            default: throw CommandError(.parameterUnknown)
            }
        }
        return result
    }

    private static func notify(_ value: ArraySlice<UInt8>) throws(CommandError) -> DSNNotify {
        var result: DSNNotify = []
        for word in value.split(separator: ASCII.comma, omittingEmptySubsequences: false) {
            switch String(decoding: word, as: UTF8.self).uppercased() {
            case "NEVER": result.insert(.never)
            case "SUCCESS": result.insert(.success)
            case "FAILURE": result.insert(.failure)
            case "DELAY": result.insert(.delay)
            default: throw CommandError(.parameterSyntax)
            }
        }
        // RFC 3461 §4.1: NEVER stands alone.
        guard !result.contains(.never) || result == .never else { throw CommandError(.parameterSyntax) }
        return result
    }

    private static func originalRecipient(_ value: ArraySlice<UInt8>) throws(CommandError)
        -> OriginalRecipient
    {
        guard value.count <= 500, let semicolon = value.firstIndex(of: ASCII.semicolon) else {
            throw CommandError(.parameterSyntax)
        }
        let type = value[..<semicolon]
        let encoded = value[value.index(after: semicolon)...]
        guard !type.isEmpty, !encoded.isEmpty,
            type.allSatisfy({ ASCII.isAlphanumeric($0) || $0 == ASCII.hyphen })
        else { throw CommandError(.parameterSyntax) }
        let typeText = String(decoding: type, as: UTF8.self)
        let decoded: [UInt8]?
        if typeText.lowercased() == "utf-8", encoded.contains(where: { $0 >= 0x80 }) {
            // RFC 6533 §3: under SMTPUTF8 the address may stand as it is.
            decoded = Array(encoded)
        } else {
            decoded = XText.decode(encoded)
        }
        guard let decoded, let address = String(validating: decoded, as: UTF8.self),
            decoded.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
        else { throw CommandError(.parameterSyntax) }
        return OriginalRecipient(addressType: typeText, address: address)
    }
}

/// `esmtp-param` of RFC 5321 §4.1.2: a keyword and perhaps `=` and a value, behind a space.
private enum CommandParameter {
    static func next(_ cursor: inout ByteCursor) throws(CommandError) -> (String, ArraySlice<UInt8>?)? {
        if cursor.isAtEnd { return nil }
        guard cursor.skip(ASCII.space) else { throw CommandError(.parameterSyntax) }
        _ = cursor.take(while: { $0 == ASCII.space })
        if cursor.isAtEnd { return nil }
        let keyword = cursor.take(while: { ASCII.isAlphanumeric($0) || $0 == ASCII.hyphen })
        guard !keyword.isEmpty else { throw CommandError(.parameterSyntax) }
        let name = String(decoding: keyword, as: UTF8.self).uppercased()
        guard cursor.skip(ASCII.equals) else { return (name, nil) }
        let value = cursor.take(while: { $0 > 0x20 && $0 != ASCII.equals && $0 != 0x7F })
        guard !value.isEmpty else { throw CommandError(.parameterSyntax) }
        return (name, value)
    }
}
