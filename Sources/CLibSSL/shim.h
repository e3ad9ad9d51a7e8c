// OpenSSL as Swift sees it: the headers, and a static inline function for each macro that Swift cannot import.
#ifndef ZEGEL_CLIBSSL_SHIM_H
#define ZEGEL_CLIBSSL_SHIM_H
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/ocsp.h>

// Contexts.
static inline int zegel_SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version) {
    return (int)SSL_CTX_set_min_proto_version(ctx, version);
}
static inline int zegel_SSL_CTX_set_max_proto_version(SSL_CTX *ctx, int version) {
    return (int)SSL_CTX_set_max_proto_version(ctx, version);
}
static inline uint64_t zegel_SSL_CTX_harden(SSL_CTX *ctx, int server) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    uint64_t options = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET;
    if (server) options |= SSL_OP_CIPHER_SERVER_PREFERENCE;
    return SSL_CTX_set_options(ctx, options);
}
static inline void zegel_SSL_CTX_allow_renegotiation(SSL_CTX *ctx) {
    SSL_CTX_clear_options(ctx, SSL_OP_NO_RENEGOTIATION);
}
static inline int zegel_SSL_CTX_add1_chain_cert(SSL_CTX *ctx, X509 *certificate) {
    return (int)SSL_CTX_add1_chain_cert(ctx, certificate);
}
static inline int zegel_SSL_CTX_set_groups(SSL_CTX *ctx, const char *list) {
    return (int)SSL_CTX_set1_groups_list(ctx, list);
}
static inline int zegel_SSL_CTX_set_dh_auto(SSL_CTX *ctx) { return (int)SSL_CTX_set_dh_auto(ctx, 1); }

// Connections.
static inline int zegel_SSL_get_ex_new_index(void) { return SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL); }
static inline int zegel_X509_STORE_CTX_get_ex_new_index(void) {
    return X509_STORE_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}
static inline int zegel_SSL_set_tlsext_host_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}
static inline EVP_PKEY *zegel_SSL_get1_peer_tmp_key(SSL *ssl) {
    EVP_PKEY *key = NULL;
    return SSL_get_peer_tmp_key(ssl, &key) ? key : NULL;
}
static inline int zegel_SSL_get_peer_signature_nid(SSL *ssl, int *digest) {
    return (int)SSL_get_peer_signature_nid(ssl, digest);
}
static inline int zegel_SSL_get_negotiated_group(SSL *ssl) { return (int)SSL_get_negotiated_group(ssl); }

// Stacks and memory BIOs.
static inline int zegel_sk_X509_num(const STACK_OF(X509) *stack) { return sk_X509_num(stack); }
static inline X509 *zegel_sk_X509_value(const STACK_OF(X509) *stack, int index) {
    return sk_X509_value(stack, index);
}
static inline void zegel_BIO_never_ends(BIO *bio) { BIO_set_mem_eof_return(bio, -1); }

// OCSP staples.
static inline int zegel_SSL_CTX_ask_for_staple(SSL_CTX *ctx) {
    return (int)SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp);
}
static inline long zegel_SSL_get_staple(SSL *ssl, const unsigned char **response) {
    return SSL_get_tlsext_status_ocsp_resp(ssl, response);
}
// Whether a single response names a certificate of an issuer, by the response's own digest.
static inline int zegel_OCSP_is_about(const OCSP_SINGLERESP *single, const X509 *leaf, const X509 *issuer) {
    OCSP_CERTID *id = (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(single);
    ASN1_OBJECT *name = NULL;
    if (id == NULL || !OCSP_id_get0_info(NULL, &name, NULL, NULL, id)) return 0;
    const EVP_MD *digest = EVP_get_digestbyobj(name);
    OCSP_CERTID *own = digest == NULL ? NULL : OCSP_cert_to_id(digest, leaf, issuer);
    int same = own != NULL && OCSP_id_cmp(own, id) == 0;
    OCSP_CERTID_free(own);
    return same;
}
// RFC 7633: whether a certificate demands a staple (feature 5, status_request).
static inline int zegel_X509_must_staple(const X509 *certificate) {
    TLS_FEATURE *features = X509_get_ext_d2i(certificate, NID_tlsfeature, NULL, NULL);
    int found = 0;
    for (int index = 0; index < sk_ASN1_INTEGER_num(features); index++)
        if (ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, index)) == 5) found = 1;
    sk_ASN1_INTEGER_pop_free(features, ASN1_INTEGER_free);
    return found;
}

// Errors.
static inline int zegel_ERR_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int zegel_ERR_library(unsigned long code) { return ERR_GET_LIB(code); }
#endif
