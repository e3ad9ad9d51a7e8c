import Foundation

/// The header section at the start of a message (RFC 5322 §2.2): its fields as ranges, found without copying.
///
/// It reads whatever is there and never refuses: lines that are no field belong to nobody, and a section that has no end in
/// the given octets is `isComplete == false`.
public struct HeaderBlock: Sendable {
    /// One field, folded lines included.
    public struct Field: Sendable, Hashable {
        /// The octets of the name.
        public let name: Range<Int>
        /// The octets behind the colon, up to and without the last CRLF.
        public let value: Range<Int>
    }

    /// The fields from the top down.
    public private(set) var fields: [Field] = []
    /// The octets of the section without the empty line that ends it.
    public private(set) var length = 0
    /// Whether the empty line was found.
    public private(set) var isComplete = false

    /// Finds the fields in the first octets of a message.
    ///
    /// - Parameter maximumFields: Fields beyond it are not listed.
    public init(_ bytes: UnsafeRawBufferPointer, maximumFields: Int = 2000) {
        guard let base = bytes.baseAddress else { return }
        fields.reserveCapacity(32)
        var start = 0
        var open: (name: Range<Int>, value: Int)?
        var contentEnd = 0
        while start < bytes.count {
            let feed = memchr(base + start, Int32(ASCII.lf), bytes.count - start)
            let next = feed.map { UnsafeRawPointer($0) - base + 1 } ?? bytes.count
            var end = feed == nil ? next : next - 1
            if feed != nil, end > start, bytes[end - 1] == ASCII.cr { end -= 1 }
            if end == start, feed != nil {
                isComplete = true
                break
            }
            if bytes[start] != ASCII.space, bytes[start] != ASCII.tab {
                close(&open, at: contentEnd)
                if fields.count < maximumFields,
                    let colon = memchr(base + start, Int32(ASCII.colon), end - start)
                {
                    let colonIndex = UnsafeRawPointer(colon) - base
                    open = (start..<colonIndex, colonIndex + 1)
                }
            }
            contentEnd = end
            length = next
            start = next
        }
        close(&open, at: contentEnd)
    }

    /// Finds the fields in the first octets of a message.
    public init(_ bytes: [UInt8], maximumFields: Int = 2000) {
        self = bytes.withUnsafeBytes { HeaderBlock($0, maximumFields: maximumFields) }
    }

    private mutating func close(_ open: inout (name: Range<Int>, value: Int)?, at end: Int) {
        guard let field = open else { return }
        open = nil
        fields.append(Field(name: field.name, value: field.value..<max(field.value, end)))
    }

    /// How many fields have this name, in any case.
    public func count(of name: StaticString, in bytes: UnsafeRawBufferPointer) -> Int {
        fields.reduce(0) { $0 + (Self.matches(bytes, $1.name, name) ? 1 : 0) }
    }

    /// The value of the first field of this name, unfolded and without surrounding white space.
    ///
    /// - Parameter maximumLength: Octets beyond it are left away.
    public func first(
        _ name: StaticString, in bytes: UnsafeRawBufferPointer, maximumLength: Int = 4096
    ) -> [UInt8]? {
        guard let field = fields.first(where: { Self.matches(bytes, $0.name, name) }) else { return nil }
        var result: [UInt8] = []
        for index in field.value {
            let octet = bytes[index]
            if octet == ASCII.cr || octet == ASCII.lf { continue }
            if result.isEmpty, octet == ASCII.space || octet == ASCII.tab { continue }
            result.append(octet)
            if result.count == maximumLength { break }
        }
        while let last = result.last, last == ASCII.space || last == ASCII.tab { result.removeLast() }
        return result
    }

    private static func matches(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ name: StaticString)
        -> Bool
    {
        // Obsolete syntax allows white space between the name and the colon (RFC 5322 §4.5).
        var end = range.upperBound
        while end > range.lowerBound, bytes[end - 1] == ASCII.space || bytes[end - 1] == ASCII.tab {
            end -= 1
        }
        guard end - range.lowerBound == name.utf8CodeUnitCount else { return false }
        for offset in 0..<name.utf8CodeUnitCount
        where ASCII.lowercased(bytes[range.lowerBound + offset]) != ASCII.lowercased(name.utf8Start[offset]) {
            return false
        }
        return true
    }
}
