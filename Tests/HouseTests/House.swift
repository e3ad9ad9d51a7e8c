// The tree as the tests of the house see it: its root, its Swift files, and the targets that Package.swift names.

import Foundation

/// One file of ours.
struct HouseFile: Sendable, CustomStringConvertible {
    /// Relative to the root, with `/`.
    let path: String
    let text: String

    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    var description: String { path }

    /// The target whose folder it is in; nil outside of Sources.
    var target: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
    }

    /// Its lines with their numbers, without those that are only comment.
    var code: [(number: Int, line: Substring)] {
        lines.enumerated().map { ($0 + 1, $1) }.filter { !$0.1.drop { $0 == " " }.hasPrefix("//") }
    }
}

/// The repository.
enum House {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
        .standardized

    /// Every Swift file below Sources and Tests.
    static func swiftFiles() throws -> [HouseFile] {
        try files(below: "Sources", suffix: ".swift") + files(below: "Tests", suffix: ".swift")
    }

    /// Files below a folder with one of the suffixes.
    static func files(below folder: String, suffix: String...) throws -> [HouseFile] {
        let base = root.appending(path: folder)
        guard let walk = FileManager.default.enumerator(atPath: base.path) else { return [] }
        return try walk.compactMap { $0 as? String }.sorted().compactMap { path in
            guard suffix.contains(where: path.hasSuffix) else { return nil }
            let text = try String(contentsOf: base.appending(path: path), encoding: .utf8)
            return HouseFile(path: "\(folder)/\(path)", text: text)
        }
    }

    /// A file of the root, or nil.
    static func text(_ path: String) -> String? {
        try? String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// What links may name after `#` in a Markdown text: its headings in lower case, joined with `-`.
    static func anchors(_ text: String) -> Set<String> {
        Set(
            text.split(separator: "\n").filter { $0.hasPrefix("#") }.map { line in
                line.drop { $0 == "#" || $0 == " " }.lowercased()
                    .filter { $0.isLetter || $0.isNumber || $0 == " " || $0 == "-" }
                    .replacing(" ", with: "-")
            })
    }

    /// Our own targets in the order of Package.swift, each with those of ours that it names.
    static func targets() throws -> [(name: String, kind: String, dependencies: [String])] {
        let text = try String(contentsOf: root.appending(path: "Package.swift"), encoding: .utf8)
        guard let list = text.range(of: "    targets: [\n") else { return [] }
        let kinds = [".target(", ".executableTarget(", ".testTarget(", ".systemLibrary("]
        var blocks: [(kind: String, strings: [String])] = []
        for line in text[list.upperBound...].split(separator: "\n") {
            let trimmed = line.drop { $0 == " " }
            if trimmed.hasPrefix("//") { continue }
            if let kind = kinds.first(where: trimmed.hasPrefix) { blocks.append((kind, [])) }
            guard !blocks.isEmpty else { continue }
            // Every second piece between quotation marks is a string.
            let pieces = line.split(separator: "\"", omittingEmptySubsequences: false)
            let isProduct = line.contains(".product(name:")
            for (index, piece) in pieces.enumerated() where index % 2 == 1 {
                if isProduct, pieces[index - 1].hasSuffix(".product(name: ") { continue }
                blocks[blocks.count - 1].strings.append(String(piece))
            }
        }
        let names = Set(blocks.compactMap(\.strings.first))
        return blocks.compactMap { block in
            guard let name = block.strings.first else { return nil }
            return (name, block.kind, block.strings.dropFirst().filter { names.contains($0) && $0 != name })
        }
    }
}
