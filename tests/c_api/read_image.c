/* Reads images with a SavedModel or a frozen graph through TensorFlow's C API, as servers that are not Python do.

   read_image [--scalar] DIRECTORY|FILE.pb IMAGE...

   Prints a line an image: path, probability, text. With --scalar one image is fed without a batch. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

static void read_file(const char *path, TF_TString *content) {
  FILE *file = fopen(path, "rb");
  char *bytes;
  long size;
  if (!file) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  size = ftell(file);
  rewind(file);
  bytes = malloc(size);
  if (!bytes || fread(bytes, 1, size, file) != (size_t)size) {
    perror(path);
    exit(1);
  }
  fclose(file);
  TF_TString_Init(content);
  TF_TString_Copy(content, bytes, size);
  free(bytes);
}

static TF_Session *load(const char *path, TF_Graph *graph, TF_SessionOptions *options, TF_Status *status) {
  const char *const tags[] = {"serve"};
  const char *end = strrchr(path, '.');
  TF_ImportGraphDefOptions *names;
  TF_TString content;
  TF_Buffer *buffer;
  if (!end || strcmp(end, ".pb"))
    return TF_LoadSessionFromSavedModel(options, NULL, path, tags, 1, graph, NULL, status);
  read_file(path, &content);
  buffer = TF_NewBufferFromString(TF_TString_GetDataPointer(&content), TF_TString_GetSize(&content));
  TF_TString_Dealloc(&content);
  names = TF_NewImportGraphDefOptions();
  TF_GraphImportGraphDef(graph, buffer, names, status);
  TF_DeleteImportGraphDefOptions(names);
  TF_DeleteBuffer(buffer);
  return TF_GetCode(status) == TF_OK ? TF_NewSession(graph, options, status) : NULL;
}

static TF_Output output_of(TF_Graph *graph, const char *name) {
  TF_Output output = {TF_GraphOperationByName(graph, name), 0};
  if (!output.oper) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

int main(int argc, char **argv) {
  int scalar = argc > 1 && !strcmp(argv[1], "--scalar");
  const char *directory = argv[1 + scalar];
  int64_t count = argc - 2 - scalar;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session;
  TF_Tensor *input, *answers[2];
  TF_TString *images;

  if (count < 1 || (scalar && count != 1)) {
    fprintf(stderr, "usage: read_image [--scalar] DIRECTORY|FILE.pb IMAGE...\n");
    return 2;
  }
  session = load(directory, graph, options, status);
  check(status, directory);

  input = TF_AllocateTensor(TF_STRING, &count, scalar ? 0 : 1, count * sizeof(TF_TString));
  images = TF_TensorData(input);
  for (int k = 0; k < count; ++k) read_file(argv[2 + scalar + k], &images[k]);

  TF_Output fed = output_of(graph, "input_image_as_bytes");
  TF_Output fetched[] = {output_of(graph, "prediction"), output_of(graph, "probability")};
  TF_SessionRun(session, NULL, &fed, &input, 1, fetched, answers, 2, NULL, 0, NULL, status);
  check(status, "run");
  if (TF_NumDims(answers[0]) != !scalar || TF_NumDims(answers[1]) != !scalar || TF_TensorType(answers[1]) != TF_DOUBLE) {
    fprintf(stderr, "the answer has not the shape of the question\n");
    return 1;
  }
  for (int k = 0; k < count; ++k) {
    const TF_TString *text = (const TF_TString *)TF_TensorData(answers[0]) + k;
    printf("%s\t%.6f\t%.*s\n", argv[2 + scalar + k], ((double *)TF_TensorData(answers[1]))[k],
           (int)TF_TString_GetSize(text), TF_TString_GetDataPointer(text));
  }
  TF_DeleteTensor(input);
  TF_DeleteTensor(answers[0]);
  TF_DeleteTensor(answers[1]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
