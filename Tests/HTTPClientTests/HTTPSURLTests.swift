// What is a URL here, and what is not.

import Testing

@testable import HTTPClient

@Suite struct HTTPSURLTests {
    @Test(arguments: [
        (
            "https://mta-sts.example.com/.well-known/mta-sts.txt", "mta-sts.example.com", 443,
            "/.well-known/mta-sts.txt"
        ),
        ("HTTPS://Example.COM", "example.com", 443, "/"),
        ("https://example.com:8443?a=b%20c", "example.com", 8443, "/?a=b%20c"),
        ("https://192.0.2.1/x", "192.0.2.1", 443, "/x"),
        ("https://[2001:db8::1]:444/x", "2001:db8::1", 444, "/x"),
        ("https://b\u{fc}cher.example/", "xn--bcher-kva.example", 443, "/"),
    ])
    func `a URL has a host, a port and a target`(text: String, host: String, port: Int, target: String) throws
    {
        let url = try HTTPSURL(text)
        #expect(url.host.text == host)
        #expect(url.port == port)
        #expect(url.target == target)
    }

    @Test(arguments: [
        "http://example.com/", "https:/example.com", "https://", "https:///x", "https://user@example.com/",
        "https://user:pw@example.com/", "https://example.com/#part", "https://example.com:0/",
        "https://example.com:65536/", "https://example.com:+1/", "https://example.com:/",
        "https://example.com/a b", "https://example.com/%zz", "https://example.com/%1",
        "https://example.com/\r\nx: y", "https://2130706433/", "https://127.1/", "https://[192.0.2.1]/",
        "https://[::1", "https://a..b/", "https://example.com\\@evil.test/", "https://ex%61mple.com/",
        "https://example.com/\u{fc}",
    ])
    func `what could be understood in two ways is refused`(text: String) {
        let error = #expect(throws: HTTPClientError.self) { try HTTPSURL(text) }
        #expect(error?.code == .invalidRequest)
    }

    @Test(arguments: [
        ("https://example.com/", "example.com"), ("https://example.com:443/", "example.com"),
        ("https://example.com:80/", "example.com:80"), ("https://[2001:db8::1]/", "[2001:db8::1]"),
        ("https://[2001:db8::1]:8/", "[2001:db8::1]:8"),
    ])
    func `RFC 9110 §7.2: the authority has the port unless it is the scheme's own`(
        text: String, authority: String
    )
        throws
    {
        #expect(try HTTPSURL(text).authority == authority)
    }
}
