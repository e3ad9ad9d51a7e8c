// A file of JSON values, one after the other, however they are broken into lines: read a piece at a time.

import Foundation

/// The values of a file.
struct JSONValues {
    /// One value that is an object or an array.
    struct Value {
        /// Its text.
        var bytes: [UInt8]
        /// The line that it begins on, from 1.
        var line: Int
    }

    /// Most octets of one value: a page of events is a thousandth of it.
    static let limit = 256 << 20
    private static let piece = 1 << 20

    let path: String
    private let file: FileHandle
    private var buffer: [UInt8] = []
    private var index = 0
    private var line = 1
    private var isOver = false

    init(_ path: String) throws(ClusterError) {
        self.path = path
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw ClusterError(.usage, "\(path) cannot be read: \(String(cString: strerror(errno)))")
        }
        self.file = file
    }

    /// The next value; nil: there are no more.
    mutating func next() throws(ClusterError) -> Value? {
        var value: [UInt8] = []
        var (begin, depth) = (0, 0)
        var (isInText, isEscaped) = (false, false)
        while let byte = try nextByte() {
            if byte == UInt8(ascii: "\n") { line += 1 }
            if value.isEmpty {
                switch byte {
                case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"), 0x1E:
                    continue
                case UInt8(ascii: "{"), UInt8(ascii: "["): begin = line
                default:
                    throw ClusterError(
                        .usage, "\(path):\(line): a JSON object is expected, and here is something else")
                }
            }
            value.append(byte)
            guard value.count <= Self.limit else {
                throw ClusterError(
                    .usage, "\(path):\(begin): this value does not end within \(Self.limit) octets")
            }
            if isInText {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInText = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): isInText = true
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                if depth == 0 { return Value(bytes: value, line: begin) }
            default: break
            }
        }
        guard value.isEmpty else {
            throw ClusterError(.usage, "\(path):\(begin): this value does not end: the file was cut off")
        }
        return nil
    }

    private mutating func nextByte() throws(ClusterError) -> UInt8? {
        if index == buffer.count {
            if isOver { return nil }
            do { buffer = Array(try file.read(upToCount: Self.piece) ?? Data()) } catch {
                throw ClusterError(.environment, "\(path): \(error.localizedDescription)")
            }
            index = 0
            guard !buffer.isEmpty else {
                isOver = true
                return nil
            }
        }
        defer { index += 1 }
        return buffer[index]
    }
}
