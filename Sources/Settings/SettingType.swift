// The types a configuration value can have, each with the text it is written as and its limits.

/// How a text becomes a `Value`.
struct SettingType<Value: Sendable>: Sendable {
    var name: String
    var limits: String?
    var parse: @Sendable (SettingText) throws(SettingProblem) -> Value

    init(
        _ name: String, limits: String? = nil,
        _ parse: @escaping @Sendable (SettingText) throws(SettingProblem) -> Value
    ) {
        self.name = name
        self.limits = limits
        self.parse = parse
    }

    /// A type written as one text.
    static func scalar(
        _ name: String, limits: String? = nil,
        _ parse: @escaping @Sendable (String) throws(SettingProblem) -> Value
    ) -> SettingType {
        SettingType(name, limits: limits) { (text) throws(SettingProblem) in
            switch text {
            case .one(let text): return try parse(text)
            case .items: throw SettingProblem(problem: "is a list", fix: "write one \(name)")
            case .pairs: throw SettingProblem(problem: "is a mapping", fix: "write one \(name)")
            }
        }
    }
}

extension SettingType where Value == String {
    /// Text that is not empty.
    static var text: SettingType {
        .scalar("text") { (text) throws(SettingProblem) in
            guard !text.isEmpty else {
                throw SettingProblem(problem: "is empty", fix: "write a text or remove the key")
            }
            return text
        }
    }

    /// A file or folder; relative ones start at the working directory of the process.
    static var path: SettingType {
        var type = text
        type.name = "path"
        return type
    }

    /// An IPv4 or IPv6 address without a port.
    static var address: SettingType {
        .scalar("IP address") { (text) throws(SettingProblem) in
            guard IPAddressBytes(text) != nil else {
                throw SettingProblem(
                    problem: "'\(text)' is no IP address", fix: "write one such as 192.0.2.1 or 2001:db8::1")
            }
            return text
        }
    }

    /// A host name in letters, digits, hyphens and dots (RFC 1123 §2.1).
    static var hostName: SettingType {
        .scalar("host name") { (text) throws(SettingProblem) in
            guard HostPort.isHostName(text) else {
                throw SettingProblem(
                    problem: "'\(text)' is no host name", fix: "write one such as mail.example.org")
            }
            return text
        }
    }
}

extension SettingType where Value == Bool {
    static var bool: SettingType {
        .scalar("bool") { (text) throws(SettingProblem) in
            switch text.lowercased() {
            case "true", "yes", "on": return true
            case "false", "no", "off": return false
            default:
                throw SettingProblem(
                    problem: "'\(text)' is neither true nor false", fix: "write true or false")
            }
        }
    }
}

extension SettingType where Value == Int {
    static func int(_ range: ClosedRange<Int>, unit: String = "") -> SettingType {
        let limits = "\(range.lowerBound) … \(range.upperBound)"
        return .scalar(unit.isEmpty ? "int" : "int (\(unit))", limits: limits) {
            (text) throws(SettingProblem) in
            guard let value = Int(text) else {
                throw SettingProblem(
                    problem: "'\(text)' is no whole number", fix: "write one between \(limits)")
            }
            guard range.contains(value) else {
                throw SettingProblem(problem: "\(value) is out of range", fix: "write one between \(limits)")
            }
            return value
        }
    }
}

extension SettingType where Value == ByteCount {
    static func size(_ range: ClosedRange<ByteCount>) -> SettingType {
        let limits = "\(range.lowerBound) … \(range.upperBound)"
        return .scalar("size", limits: limits) { (text) throws(SettingProblem) in
            guard let value = ByteCount(text) else {
                throw SettingProblem(
                    problem: "'\(text)' is no size",
                    fix: "write bytes, or a number with KB, MB, GB, KiB, MiB, GiB")
            }
            guard range.contains(value) else {
                throw SettingProblem(
                    problem: "\(text) is out of range", fix: "write a size between \(limits)")
            }
            return value
        }
    }
}

extension SettingType where Value == Duration {
    static func duration(_ range: ClosedRange<Duration>) -> SettingType {
        let limits = "\(DurationText.text(range.lowerBound)) … \(DurationText.text(range.upperBound))"
        return .scalar("duration", limits: limits) { (text) throws(SettingProblem) in
            guard let value = DurationText.parse(text) else {
                throw SettingProblem(
                    problem: "'\(text)' is no duration",
                    fix: "write a number with ms, s, m, h or d, such as 15s or 1h30m")
            }
            guard range.contains(value) else {
                throw SettingProblem(
                    problem: "\(text) is out of range", fix: "write a duration between \(limits)")
            }
            return value
        }
    }
}

extension SettingType where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
    static func choice(_: Value.Type = Value.self) -> SettingType {
        let choices = Value.allCases.map(\.rawValue).joined(separator: ", ")
        return .scalar("choice", limits: choices) { (text) throws(SettingProblem) in
            guard let value = Value(rawValue: text) else {
                throw SettingProblem(problem: "'\(text)' is not a choice", fix: "write one of \(choices)")
            }
            return value
        }
    }
}

extension SettingType {
    /// Items written with `separator` between them, or as a YAML sequence; empty text is no item.
    static func list<Item>(
        of item: SettingType<Item>, separator: Character = ",", atMost limit: Int = 1000,
        notEmpty: Bool = false
    ) -> SettingType where Value == [Item] {
        SettingType("list of \(item.name)", limits: item.limits) { (text) throws(SettingProblem) in
            let texts: [String]
            switch text {
            case .items(let items), .pairs(let items): texts = items
            case .one(let text):
                texts = text.split(separator: separator).map(trimmed).filter { !$0.isEmpty }
            }
            guard texts.count <= limit else {
                throw SettingProblem(problem: "has \(texts.count) items", fix: "write at most \(limit)")
            }
            guard !notEmpty || !texts.isEmpty else {
                throw SettingProblem(problem: "is empty", fix: "write at least one \(item.name)")
            }
            var values: [Item] = []
            for text in texts { values.append(try item.parse(.one(text))) }
            return values
        }
    }

    /// A type that reads itself from text, nil when it cannot.
    static func readable(
        _ name: String, example: String, _ read: @escaping @Sendable (String) -> Value?
    ) -> SettingType {
        .scalar(name) { (text) throws(SettingProblem) in
            guard let value = read(text) else {
                throw SettingProblem(problem: "'\(text)' is no \(name)", fix: "write one such as \(example)")
            }
            return value
        }
    }
}

/// `text` without blanks at either end.
func trimmed(_ text: some StringProtocol) -> String {
    var rest = Substring(text)
    while let first = rest.first, first.isWhitespace { rest.removeFirst() }
    while let last = rest.last, last.isWhitespace { rest.removeLast() }
    return String(rest)
}
