// docs/how-a-verdict-is-reached.md is read by people who cannot look into the code: what it names must be there.

import Foundation
import Testing

@Suite("docs/how-a-verdict-is-reached.md") struct VerdictGuideTests {
    private let text: String
    /// What stands between backticks on one line.
    private let quoted: [String]

    init() throws {
        text = try #require(House.text("docs/how-a-verdict-is-reached.md"))
        let pieces = text.replacing("```", with: "").split(separator: "\n").flatMap { line in
            line.split(separator: "`", omittingEmptySubsequences: false).enumerated()
                .filter { $0.offset % 2 == 1 }.map { String($0.element) }
        }
        quoted = pieces
    }

    @Test func `two pages with one drawing`() {
        #expect(text.split { $0.isWhitespace }.count <= 1100)
        #expect(text.components(separatedBy: "─►").count > 2)
    }

    @Test func `every reason code of the frequent cases is one`() throws {
        let codes = try #require(House.text("Sources/Policy/ReasonCode.swift"))
        let rows = text.split(separator: "\n").filter {
            $0.hasPrefix("| returned") || $0.hasPrefix("| waits")
        }
        #expect(rows.count > 10)
        for row in rows {
            let columns = row.split(separator: "|")
            try #require(columns.count == 3, "\(row)")
            let named = columns[1].split(separator: "`").filter { $0.contains { $0.isLetter } }
            #expect(!named.isEmpty, "\(row)")
            for code in named { #expect(codes.contains("ReasonCode(\"\(code)\")"), "\(code)") }
        }
    }

    @Test func `every setting is one`() throws {
        let table = try #require(House.text("docs/configuration.md"))
        let settings = quoted.filter {
            $0.wholeMatch(of: #/(delivery|rulesets|worker|dns|policy|api)\.[a-z_]+/#) != nil
        }
        #expect(settings.count >= 4)
        for setting in settings { #expect(table.contains("| `\(setting)` |"), "\(setting)") }
    }

    @Test func `every command and option is one`() throws {
        let sources = try House.files(below: "Sources/zegel", suffix: ".swift").map(\.text).joined()
        let commands = quoted.filter { $0.hasPrefix("zegel ") }
        #expect(commands.count >= 4)
        for command in commands {
            let words = command.split(separator: " ")
            #expect(sources.contains("commandName: \"\(words[1])\""), "\(command)")
            guard words[1] == "evidence" else { continue }
            #expect(sources.contains("struct \(words[2].capitalized): "), "\(command)")
        }
        for option in quoted.flatMap({ $0.split(separator: " ") }) where option.hasPrefix("--") {
            #expect(sources.contains("var \(option.dropFirst(2))"), "\(option)")
        }
    }

    @Test func `every path of the API is one`() throws {
        let document = try #require(House.text("Sources/API/Server/OpenAPIDocument.swift"))
        let paths = quoted.filter { $0.hasPrefix("GET ") }.map { path in
            path.dropFirst(4).prefix { $0 != "?" }.replacing("ID", with: "{id}")
        }
        #expect(paths.count >= 2)
        for path in paths { #expect(document.contains("\"\(path)\": {"), "\(path)") }
    }
}
