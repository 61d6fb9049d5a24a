/* Rows for a database, as two fields of bytes: one statement then takes them all, without asking for the interpreter. */

#include "primitives.h"
#include <string.h>

enum { WIDTH = 20, HALF = WIDTH / 2 };

typedef struct {
    PyObject *value; /* of the row before, borrowed from it */
    char told[WIDTH];
} Column;

typedef struct {
    char *bytes;
    Py_ssize_t length, room;
} Heap;

static int grow(Heap *heap, Py_ssize_t more)
{
    if (more > heap->room - heap->length) {
        Py_ssize_t room = 2 * (heap->room + more);
        char *bytes = PyMem_Realloc(heap->bytes, (size_t)room);
        if (bytes == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        heap->bytes = bytes;
        heap->room = room;
    }
    return 0;
}

static void tell(char *into, int width, unsigned long long number)
{
    for (char *at = into + width; at-- > into; number /= 10)
        *at = (char)('0' + number % 10);
}

static int tell_value(char *into, Heap *heap, PyObject *value)
{
    if (PyLong_Check(value)) {
        long long number = PyLong_AsLongLong(value);
        if (number == -1 && PyErr_Occurred())
            return -1;
        tell(into, WIDTH, number < 0 ? -(unsigned long long)number : (unsigned long long)number);
        if (number < 0)
            *into = '-';
        return 0;
    }
    const char *bytes;
    Py_ssize_t length;
    if (PyBytes_Check(value)) {
        bytes = PyBytes_AS_STRING(value);
        length = PyBytes_GET_SIZE(value);
    } else if (PyUnicode_Check(value)) {
        bytes = PyUnicode_AsUTF8AndSize(value, &length);
        if (bytes == NULL)
            return -1;
    } else {
        PyErr_Format(PyExc_TypeError, "a row holds integers, texts and bytes");
        return -1;
    }
    if (grow(heap, length) < 0)
        return -1;
    memcpy(heap->bytes + heap->length, bytes, (size_t)length);
    tell(into, HALF, (unsigned long long)heap->length + 1);
    tell(into + HALF, HALF, (unsigned long long)length);
    heap->length += length;
    return 0;
}

static int tell_row(char *into, Heap *heap, Column *columns, Py_ssize_t width, PyObject *row)
{
    if (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) != width) {
        PyErr_Format(PyExc_ValueError, "rows are tuples of one length");
        return -1;
    }
    for (Py_ssize_t at = 0; at < width; at++) {
        Column *column = &columns[at];
        PyObject *value = PyTuple_GET_ITEM(row, at);
        if (value != column->value && tell_value(column->told, heap, value) < 0)
            return -1;
        column->value = value;
        memcpy(into + at * WIDTH, column->told, WIDTH);
    }
    return 0;
}

/* Of a list of rows: the places of their values, and what stands there. */
PyObject *packed(PyObject *Py_UNUSED(module), PyObject *rows)
{
    if (!PyList_Check(rows) || PyList_GET_SIZE(rows) == 0 || !PyTuple_Check(PyList_GET_ITEM(rows, 0)))
        return PyErr_Format(PyExc_ValueError, "a list of rows, at least one");
    Py_ssize_t count = PyList_GET_SIZE(rows), width = PyTuple_GET_SIZE(PyList_GET_ITEM(rows, 0));
    Heap heap = {NULL, 0, 0};
    Column *columns = PyMem_Calloc((size_t)width + 1, sizeof *columns);
    PyObject *places = PyBytes_FromStringAndSize(NULL, count * width * WIDTH), *made = NULL;
    if (columns == NULL || places == NULL || grow(&heap, 1) < 0)
        goto end;
    heap.bytes[heap.length++] = 0; /* an empty field would be no field */
    for (Py_ssize_t row = 0; row < count; row++)
        if (tell_row(PyBytes_AS_STRING(places) + row * width * WIDTH, &heap, columns, width,
                     PyList_GET_ITEM(rows, row)) < 0)
            goto end;
    made = Py_BuildValue("(Oy#)", places, heap.bytes, heap.length);
end:
    if (made == NULL && !PyErr_Occurred())
        PyErr_NoMemory();
    Py_XDECREF(places);
    PyMem_Free(columns);
    PyMem_Free(heap.bytes);
    return made;
}
