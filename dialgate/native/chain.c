/* The chain of a log, and the tree over its entries: SHA-256 (FIPS 180-4). */

#include "primitives.h"
#include <stdint.h>
#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98U, 0x71374491U, 0xb5c0fbcfU, 0xe9b5dba5U, 0x3956c25bU, 0x59f111f1U, 0x923f82a4U, 0xab1c5ed5U,
    0xd807aa98U, 0x12835b01U, 0x243185beU, 0x550c7dc3U, 0x72be5d74U, 0x80deb1feU, 0x9bdc06a7U, 0xc19bf174U,
    0xe49b69c1U, 0xefbe4786U, 0x0fc19dc6U, 0x240ca1ccU, 0x2de92c6fU, 0x4a7484aaU, 0x5cb0a9dcU, 0x76f988daU,
    0x983e5152U, 0xa831c66dU, 0xb00327c8U, 0xbf597fc7U, 0xc6e00bf3U, 0xd5a79147U, 0x06ca6351U, 0x14292967U,
    0x27b70a85U, 0x2e1b2138U, 0x4d2c6dfcU, 0x53380d13U, 0x650a7354U, 0x766a0abbU, 0x81c2c92eU, 0x92722c85U,
    0xa2bfe8a1U, 0xa81a664bU, 0xc24b8b70U, 0xc76c51a3U, 0xd192e819U, 0xd6990624U, 0xf40e3585U, 0x106aa070U,
    0x19a4c116U, 0x1e376c08U, 0x2748774cU, 0x34b0bcb5U, 0x391c0cb3U, 0x4ed8aa4aU, 0x5b9cca4fU, 0x682e6ff3U,
    0x748f82eeU, 0x78a5636fU, 0x84c87814U, 0x8cc70208U, 0x90befffaU, 0xa4506cebU, 0xbef9a3f7U, 0xc67178f2U,
};

enum { SHA_BLOCK = 64, SHA = 32 };

static inline uint32_t turn(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void sha_plain(uint32_t h[8], const uint8_t *at, size_t blocks)
{
    for (; blocks > 0; blocks--, at += SHA_BLOCK) {
        uint32_t w[64], s[8];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)at[4 * t] << 24 | (uint32_t)at[4 * t + 1] << 16 | (uint32_t)at[4 * t + 2] << 8 | at[4 * t + 3];
        for (int t = 16; t < 64; t++)
            w[t] = w[t - 16] + (turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3) + w[t - 7] +
                   (turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10);
        memcpy(s, h, sizeof s);
        for (int t = 0; t < 64; t++) {
            uint32_t one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                           K[t] + w[t];
            uint32_t two =
                (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 28);
            s[4] += one;
            s[0] = one + two;
        }
        for (int t = 0; t < 8; t++)
            h[t] += s[t];
    }
}

#if defined(__x86_64__) && !defined(PLAIN) /* a test defines PLAIN */
#include <cpuid.h>
#include <immintrin.h>

/* SHA-256 with the processor's SHA instructions, which keep the state as (a b e f) and (c d g h). */
__attribute__((target("sha,ssse3,sse4.1"))) static void sha_native(uint32_t h[8], const uint8_t *at, size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(abcd, efgh, 8), cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
    for (; blocks > 0; blocks--, at += SHA_BLOCK) {
        __m128i before_abef = abef, before_cdgh = cdgh, w[4];
        for (int each = 0; each < 4; each++)
            w[each] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * each)), swap);
#pragma GCC unroll 16
        for (int four = 0; four < 16; four++) {
            __m128i now = w[four & 3], last = w[(four + 3) & 3];
            __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(K + 4 * four)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (four < 12) /* the four words that replace these */
                w[four & 3] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(now, w[(four + 1) & 3]),
                                                                 _mm_alignr_epi8(last, w[(four + 2) & 3], 4)),
                                                   last);
        }
        abef = _mm_add_epi32(abef, before_abef);
        cdgh = _mm_add_epi32(cdgh, before_cdgh);
    }
    abcd = _mm_shuffle_epi32(abef, 0x1b);
    efgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(abcd, efgh, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(efgh, abcd, 8));
}

static int has_native(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(1, 0, &a, &b, &c, &d) && c >> 9 & 1 && c >> 19 & 1 &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1;
}
#else
#define sha_native sha_plain
static int has_native(void) { return 0; }
#endif

static void (*sha_blocks)(uint32_t h[8], const uint8_t *at, size_t blocks) = sha_plain;

void choose_hash(void) { sha_blocks = has_native() ? sha_native : sha_plain; }

/* Hash `first`, which is shorter than a block, followed by `second`. */
static void sha256(const void *first, size_t before, const void *second, size_t length, uint8_t into[SHA])
{
    uint32_t h[8] = {0x6a09e667U, 0xbb67ae85U, 0x3c6ef372U, 0xa54ff53aU, 0x510e527fU, 0x9b05688cU, 0x1f83d9abU, 0x5be0cd19U};
    uint8_t block[2 * SHA_BLOCK] = {0};
    const uint8_t *at = second;
    uint64_t bits = (uint64_t)(before + length) * 8;
    size_t held = before;
    memcpy(block, first, before);
    if (held + length >= SHA_BLOCK) {
        size_t fits = SHA_BLOCK - held;
        memcpy(block + held, at, fits);
        sha_blocks(h, block, 1);
        at += fits;
        length -= fits;
        sha_blocks(h, at, length / SHA_BLOCK);
        at += length / SHA_BLOCK * SHA_BLOCK;
        length %= SHA_BLOCK;
        memset(block, 0, sizeof block);
        held = 0;
    }
    memcpy(block + held, at, length);
    held += length;
    block[held++] = 0x80;
    size_t blocks = held + 8 > SHA_BLOCK ? 2 : 1;
    for (int byte = 0; byte < 8; byte++)
        block[blocks * SHA_BLOCK - 1 - (size_t)byte] = (uint8_t)(bits >> 8 * byte);
    sha_blocks(h, block, blocks);
    for (int word = 0; word < 8; word++)
        for (int byte = 0; byte < 4; byte++)
            into[4 * word + byte] = (uint8_t)(h[word] >> (24 - 8 * byte));
}

enum { FRAME = 83, LEAST = FRAME + 2 }; /* {"hash":"<64 hex digits>","entry":<body>}\n */
static const char BEFORE[] = "{\"hash\":\"", BETWEEN[] = "\",\"entry\":";

static void frame(const uint8_t hash[SHA], char *into)
{
    memcpy(into, BEFORE, 9);
    for (int at = 0; at < SHA; at++) {
        into[9 + 2 * at] = "0123456789abcdef"[hash[at] >> 4];
        into[10 + 2 * at] = "0123456789abcdef"[hash[at] & 15];
    }
    memcpy(into + 73, BETWEEN, 10);
}

static int head_of(Py_buffer *given, uint8_t head[SHA])
{
    if (given->len == SHA)
        memcpy(head, given->buf, SHA);
    else
        PyErr_SetString(PyExc_ValueError, "`head` must have 32 bytes");
    return given->len == SHA ? 0 : -1;
}

/* Return the log lines for the bodies after `head`, and the new head. */
PyObject *chained(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer given;
    PyObject *listed, *lines = NULL;
    if (!PyArg_ParseTuple(args, "y*O:chained", &given, &listed))
        return NULL;
    uint8_t head[SHA];
    PyObject *bodies = head_of(&given, head) < 0 ? NULL : PySequence_Fast(listed, "`bodies` must be a sequence");
    PyBuffer_Release(&given);
    if (bodies == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(bodies), length = count * LEAST;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *body = PySequence_Fast_GET_ITEM(bodies, at);
        if (!PyBytes_Check(body)) {
            Py_DECREF(bodies);
            return PyErr_Format(PyExc_TypeError, "each body must be bytes");
        }
        length += PyBytes_GET_SIZE(body);
    }
    lines = PyBytes_FromStringAndSize(NULL, length);
    char *into = lines == NULL ? NULL : PyBytes_AS_STRING(lines);
    for (Py_ssize_t at = 0; into != NULL && at < count; at++) {
        PyObject *body = PySequence_Fast_GET_ITEM(bodies, at);
        size_t size = (size_t)PyBytes_GET_SIZE(body);
        sha256(head, SHA, PyBytes_AS_STRING(body), size, head);
        frame(head, into);
        memcpy(into + FRAME, PyBytes_AS_STRING(body), size);
        memcpy(into + FRAME + size, "}\n", 2);
        into += LEAST + size;
    }
    Py_DECREF(bodies);
    return lines == NULL ? NULL : Py_BuildValue("(Ny#)", lines, head, (Py_ssize_t)SHA);
}

/* Verify up to `most` complete lines at the beginning of `data` that follow `head`. Return the new head, the leaf hashes
 * of these lines (RFC 6962, 2.1), and their length in bytes. Releases the GIL. */
PyObject *followed(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer given, data;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "y*y*n:followed", &given, &data, &most))
        return NULL;
    uint8_t head[SHA], own[SHA];
    Py_ssize_t room = data.len / LEAST, count = 0, taken = 0;
    room = most < 0 ? 0 : most < room ? most : room;
    uint8_t *leaves = head_of(&given, head) < 0 ? NULL : PyMem_Malloc((size_t)room * SHA + 1);
    PyBuffer_Release(&given);
    if (leaves == NULL) {
        PyBuffer_Release(&data);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    const char *begin = data.buf;
    while (count < room && taken < data.len) {
        const char *line = begin + taken, *end = memchr(line, '\n', (size_t)(data.len - taken));
        char expected[FRAME];
        if (end == NULL || end - line < LEAST - 1 || end[-1] != '}')
            break;
        size_t size = (size_t)(end - line) - FRAME - 1;
        sha256(head, SHA, line + FRAME, size, own);
        frame(own, expected);
        if (memcmp(line, expected, FRAME) != 0)
            break;
        memcpy(head, own, SHA);
        sha256("", 1, line + FRAME, size, leaves + count++ * SHA);
        taken = end + 1 - begin;
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyObject *listed = PyList_New(count);
    for (Py_ssize_t at = 0; listed != NULL && at < count; at++) {
        PyObject *leaf = PyBytes_FromStringAndSize((const char *)leaves + at * SHA, SHA);
        if (leaf == NULL)
            Py_CLEAR(listed);
        else
            PyList_SET_ITEM(listed, at, leaf);
    }
    PyMem_Free(leaves);
    return listed == NULL ? NULL : Py_BuildValue("(y#Nn)", head, (Py_ssize_t)SHA, listed, taken);
}

/* Return the parent nodes of a level of the tree (RFC 6962, 2.1). */
PyObject *paired(PyObject *Py_UNUSED(module), PyObject *given)
{
    PyObject *hashes = PySequence_Fast(given, "`hashes` must be a sequence");
    if (hashes == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(hashes);
    int right = count % 2 == 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *each = PySequence_Fast_GET_ITEM(hashes, at);
        right = right && PyBytes_Check(each) && PyBytes_GET_SIZE(each) == SHA;
    }
    PyObject *nodes = right ? PyList_New(count / 2) : PyErr_Format(PyExc_ValueError, "expected pairs of hashes, of 32 bytes each");
    for (Py_ssize_t at = 0; nodes != NULL && at < count; at += 2) {
        uint8_t one[1 + SHA] = {1}, node[SHA];
        memcpy(one + 1, PyBytes_AS_STRING(PySequence_Fast_GET_ITEM(hashes, at)), SHA);
        sha256(one, sizeof one, PyBytes_AS_STRING(PySequence_Fast_GET_ITEM(hashes, at + 1)), SHA, node);
        PyObject *made = PyBytes_FromStringAndSize((const char *)node, SHA);
        if (made == NULL)
            Py_CLEAR(nodes);
        else
            PyList_SET_ITEM(nodes, at / 2, made);
    }
    Py_DECREF(hashes);
    return nodes;
}
