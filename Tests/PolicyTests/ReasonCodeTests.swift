// No code without words: a table that forgets a code, or a language, fails here.
import Foundation
import Testing

@testable import Policy

@Suite struct ReasonCodeTests {
    /// The codes declared in the source, read from it so that a new one cannot be forgotten.
    private func declared() throws -> [String] {
        let source = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Sources/Policy/ReasonCode.swift")
        return try String(contentsOf: source, encoding: .utf8).split(separator: "\n")
            .filter { $0.contains("static let") }
            .compactMap { $0.split(separator: "\"").dropFirst().first.map(String.init) }
    }

    @Test func `every declared code has a sentence in Dutch and in English`() throws {
        let codes = try declared()
        #expect(codes.count > 40)
        #expect(Set(codes) == Set(ReasonCode.known.map(\.rawValue)))
        #expect(Set(codes).count == codes.count)
        for code in codes {
            let sentence = ReasonCode(rawValue: code).sentence
            for text in [sentence.dutch, sentence.english] {
                #expect(text.hasSuffix(".") && text.count > 20 && text.count < 200, "\(code): \(text)")
                #expect(!text.contains("\n"))
            }
            #expect(sentence.dutch != sentence.english)
        }
    }

    @Test func `docs/verdicts.md shows every code with its sentences, and no other`() throws {
        let document = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../docs/verdicts.md")
        let text = try String(contentsOf: document, encoding: .utf8)
        let shown = text.components(separatedBy: "\n## The reasons\n").last?.split(separator: "\n")
            .filter { $0.hasPrefix("| ") }.dropFirst().map(String.init)
        #expect(
            shown
                == ReasonCode.known.map { code in
                    "| `\(code.rawValue)` | \(code.sentence.dutch) | \(code.sentence.english) |"
                })
    }

    @Test func `codes are lower-case words joined with a hyphen`() throws {
        for code in try declared() {
            #expect(
                code.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 },
                "\(code)")
        }
    }

    @Test func `a code that is not known keeps its text and has a general sentence`() {
        let code = ReasonCode(rawValue: "from-the-future")
        #expect(code.rawValue == "from-the-future")
        #expect(!code.sentence.dutch.isEmpty && !code.sentence.english.isEmpty)
    }
}
