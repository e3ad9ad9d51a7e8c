// Header fields in their order, found without regard to case.

/// The fields of a header (RFC 9110 §6.3), names in lower case as HTTP/2 wants them.
public struct HTTPFields: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    /// One field.
    public struct Field: Sendable, Equatable {
        /// Its name, lower case.
        public var name: String
        /// Its value without surrounding blanks.
        public var value: String
    }

    /// Every field in the order of arrival.
    public private(set) var all: [Field] = []

    /// No field.
    public init() {}

    /// Takes names and values.
    public init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { append(name, value) }
    }

    /// Adds one field.
    public mutating func append(_ name: String, _ value: String) {
        all.append(Field(name: name.lowercased(), value: value))
    }

    /// The value of a field that may stand once; nil: it is absent, or stands more than once.
    public subscript(_ name: String) -> String? {
        let values = self.values(of: name)
        return values.count == 1 ? values[0] : nil
    }

    /// Every value of a field.
    public func values(of name: String) -> [String] {
        let name = name.lowercased()
        return all.filter { $0.name == name }.map(\.value)
    }

    /// The media type of the content, lower case and without parameters (RFC 9110 §8.3.1); nil: none, or more than one.
    public var mediaType: String? {
        guard let value = self["content-type"] else { return nil }
        let type = value.prefix { $0 != ";" }
        return String(type).trimmingBlanks.lowercased()
    }
}

extension String {
    /// Without blanks and tabs at either end (RFC 9110 §5.5).
    fileprivate var trimmingBlanks: String {
        let isBlank = { (character: Character) in character == " " || character == "\t" }
        let start = drop(while: isBlank)
        return String(
            start[..<(start.lastIndex { !isBlank($0) }.map(start.index(after:)) ?? start.startIndex)])
    }
}
